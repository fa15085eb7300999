/* From reset to main: outputs off first, then memory, then the program; a crash switches off, leaves a note, resets. */
#include "startup.h"

#include "cortex_m.h"

#define RECORD_MAGIC 0x1A5170C5u
#define STACK_PAINT 0xA5A5A5A5u

extern uint32_t _data_load[], _data_start[], _data_end[], _bss_start[], _bss_end[];

struct startup_record startup_record __attribute__((section(".noinit")));

void startup_reset(void)
{
    startup_outputs_off();
    for (uint32_t *to = _data_start, *from = _data_load; to < _data_end;) {
        *to++ = *from++;
    }
    for (uint32_t *to = _bss_start; to < _bss_end;) {
        *to++ = 0;
    }
    uint32_t *here;
    __asm volatile("mov %0, sp" : "=r"(here));
    for (uint32_t *to = _stack_start; to < here - 8;) {
        *to++ = STACK_PAINT;
    }
    SCB_CPACR |= 0xFu << 20; /* floating point unit on */
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
    startup_record.vector = SCB_ICSR & 0x1FFu;
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

uint32_t startup_stack_used(void)
{
    const uint32_t *word = _stack_start;
    while (word < _stack_end && *word == STACK_PAINT) {
        word++;
    }
    return (uint32_t)((uintptr_t)_stack_end - (uintptr_t)word);
}
