/* From reset to main: outputs off first, then memory, then the program; a crash switches off, leaves a note, resets. */
#include "startup.h"

#include "cortex_m.h"

#define RECORD_MAGIC 0x1A5170C5u
#define STACK_PAINT 0xA5A5A5A5u /* what is still there was never used: tests measure the stack by it */

extern uint32_t _data_load[], _data_start[], _data_end[], _bss_start[], _bss_end[];

struct startup_record startup_record __attribute__((section(".noinit")));

static void fill(uintptr_t from, uintptr_t end, uint32_t word)
{
    for (; from < end; from += sizeof word) {
        REGISTER(from) = word;
    }
}

void startup_reset(void)
{
    uintptr_t stack;
    __asm volatile("mov %0, sp" : "=r"(stack));
    startup_outputs_off();
    SCB_VTOR = (uint32_t)(uintptr_t)vectors; /* a boot loader that jumps here leaves its own */
    const uint32_t *load = _data_load;
    for (uintptr_t to = (uintptr_t)_data_start; to < (uintptr_t)_data_end; to += sizeof *load) {
        REGISTER(to) = *load++;
    }
    fill((uintptr_t)_bss_start, (uintptr_t)_bss_end, 0);
    fill((uintptr_t)_stack_start, stack - 64u, STACK_PAINT); /* 64: what this function still uses itself */
    SCB_CPACR |= 0xFu << 20;                                 /* floating point unit on */
    __asm volatile("dsb\n\tisb" ::: "memory");
    (void)main();
    startup_crash();
}

/* Any unexpected exception. The heater cannot wait for the watchdog. */
void startup_crash(void)
{
    uint32_t frame;
    startup_outputs_off();
    __asm volatile("mov %0, sp" : "=r"(frame));
    uint32_t exception = SCB_ICSR & 0x1FFu;
    startup_record.vector = exception != 0u ? exception : 1u; /* reset's own: the start itself gave up */
    /* The stacked program counter lies above what this function pushed: take the first word that looks like code. */
    startup_record.address = 0;
    if (frame >= (uint32_t)(uintptr_t)_stack_start && frame + 64u <= (uint32_t)(uintptr_t)_stack_end) {
        const uint32_t *word = (const uint32_t *)(uintptr_t)frame;
        for (uint32_t i = 0; i < 16u; i++) {
            if ((word[i] & 0xFFFFFFE0u) == 0xFFFFFFE0u && i + 7u < 16u) {
                startup_record.address = word[i + 7u]; /* after EXC_RETURN: r0-r3, r12, lr, pc */
                break;
            }
        }
    }
    cortex_reset();
}

bool startup_count_boot(void)
{
    bool power_on = startup_record.magic != RECORD_MAGIC;
    if (power_on) {
        startup_record = (struct startup_record){.magic = RECORD_MAGIC};
    }
    startup_record.boots++;
    return power_on;
}
