# Images for the Cortex-M boards. From firmware/: make -f boards/cortex_m.mk images   (or `zig-images`)
CROSS ?= arm-none-eabi-
ZIG ?= python3 -m ziglang
OUT ?= ../build/firmware

CORTEX_BOARDS := mps2 stm32f405
# netduinoplus2 is the STM32 board built for QEMU's timers.
CORTEX_IMAGES := $(CORTEX_BOARDS) netduinoplus2

CORTEX_SOURCES := $(sort $(wildcard core/*.c boards/common/*.c))
CORTEX_HEADERS := $(wildcard core/*.h boards/common/*.h boards/common/include/*.h boards/*/*.h) \
	boards/common/sections.ld $(wildcard boards/*/memory.ld) boards/cortex_m.mk
mps2_SOURCES := $(sort $(wildcard boards/mps2/*.c))
stm32f405_SOURCES := $(sort $(wildcard boards/stm32f405/*.c))
netduinoplus2_SOURCES := $(stm32f405_SOURCES)
netduinoplus2_FLAGS := -DBOARD_QEMU=1
netduinoplus2_FOLDER := boards/stm32f405

# Tells which sources an image was built of; HELLO carries it.
CORTEX_BUILD_ID := 0x$(shell cat $(sort $(wildcard core/*.[ch] boards/*/*.[ch])) | sha256sum | cut -c 1-8)u

CORTEX_WARNINGS := -Wall -Wextra -Wconversion -Wshadow -Wvla -Wstrict-prototypes -Wmissing-prototypes -Werror
CORTEX_FLAGS := -std=c11 -Os -g -ffreestanding -ffunction-sections -fdata-sections \
	-Icore -Iboards/common -Iboards/common/include -DBUILD_ID=$(CORTEX_BUILD_ID)
CORTEX_GCC := -mcpu=cortex-m4 -mthumb -mfloat-abi=hard -mfpu=fpv4-sp-d16 -fno-tree-loop-distribute-patterns \
	-Wstack-usage=512 -fstack-usage
# No sanitizer, stack protector or unwinding, which zig adds by itself: there is no libc to call.
CORTEX_ZIG := -target thumb-freestanding-eabihf -mcpu=cortex_m4+vfp4d16sp -fno-builtin -fno-sanitize=all \
	-fno-stack-protector -fno-unwind-tables -fno-asynchronous-unwind-tables

.PHONY: images zig-images
images: $(CORTEX_IMAGES:%=$(OUT)/%.elf) $(CORTEX_BOARDS:%=$(OUT)/%.bin)
zig-images: $(CORTEX_IMAGES:%=$(OUT)/zig/%.elf)

define image
$(OUT)/$(1).elf: $$(CORTEX_SOURCES) $$($(1)_SOURCES) $$(CORTEX_HEADERS)
	@mkdir -p $(OUT)/$(1)
	@echo $$@
	@$$(CROSS)gcc $$(CORTEX_GCC) $$(CORTEX_FLAGS) $$(CORTEX_WARNINGS) $$($(1)_FLAGS) \
		-I$$(or $$($(1)_FOLDER),boards/$(1)) $$(CORTEX_SOURCES) $$($(1)_SOURCES) -dumpdir $(OUT)/$(1)/ \
		-nostdlib -Wl,--gc-sections -Wl,--fatal-warnings -Wl,-Map=$(OUT)/$(1).map \
		-T$$(or $$($(1)_FOLDER),boards/$(1))/memory.ld -lgcc -o $$@

$(OUT)/zig/$(1).elf: $$(CORTEX_SOURCES) $$($(1)_SOURCES) $$(CORTEX_HEADERS)
	@mkdir -p $(OUT)/zig
	@echo $$@
	@$$(ZIG) cc $$(CORTEX_ZIG) $$(CORTEX_FLAGS) $$(CORTEX_WARNINGS) $$($(1)_FLAGS) \
		-I$$(or $$($(1)_FOLDER),boards/$(1)) $$(CORTEX_SOURCES) $$($(1)_SOURCES) \
		-nostdlib -lcompiler_rt -Wl,--gc-sections,-e,startup_reset \
		-T$$(or $$($(1)_FOLDER),boards/$(1))/memory.ld -o $$@
endef
$(foreach name,$(CORTEX_IMAGES),$(eval $(call image,$(name))))

# What openocd, dfu-util and st-flash want.
$(OUT)/%.bin: $(OUT)/%.elf
	@$(CROSS)objcopy -O binary $< $@

.PHONY: boards-lint
boards-lint:
	@mkdir -p $(OUT)
	@for board in $(CORTEX_BOARDS); do \
	  for source in boards/common/*.c boards/$$board/*.c; do \
	    $(CROSS)gcc $(CORTEX_GCC) $(CORTEX_FLAGS) $(CORTEX_WARNINGS) -fanalyzer -Iboards/$$board -c $$source \
	      -o $(OUT)/analyzed.o || exit 1; \
	  done; \
	  cppcheck --quiet --std=c11 --enable=warning,style,performance,portability --error-exitcode=1 \
	    --suppress=missingIncludeSystem --suppress=unusedStructMember \
	    -Icore -Iboards/common -Iboards/$$board boards/common/*.c boards/$$board/*.c || exit 1; \
	done
