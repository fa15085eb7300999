/* The world beside an emulated board: a page of memory that the emulator's owner maps too. devices/insitu_mcu and the tests
 * mirror the offsets; all words are little-endian and 32 bits wide.
 *
 * The board has no analogue inputs of its own. Its pseudo-static RAM is given to QEMU as a shared file, and this page
 * of it plays the part of the converter, the capture unit and the output pins. */
#ifndef MPS2_WORLD_H
#define MPS2_WORLD_H

#include <stdint.h>

#define WORLD_ADC_CHANNELS 8u
#define WORLD_DAC_CHANNELS 2u
#define WORLD_EDGES 64u /* a power of two */

struct world_edge {
    uint32_t ticks;
    uint32_t what; /* channel, and bit 8: rising */
};

struct world {
    /* 0x000: written by the firmware */
    uint32_t magic;          /* WORLD_MAGIC once the board runs */
    uint32_t boots;          /* since power-on */
    uint32_t passes;         /* control passes since the start */
    uint32_t ticks;          /* counter at the last pass */
    uint32_t heater;         /* heater output, 1/65535 */
    uint32_t heater_on;      /* counter when it last went from zero */
    uint32_t heater_off;     /* counter when it last went to zero */
    uint32_t heater_off_pass; /* `passes` then */
    uint32_t dac[WORLD_DAC_CHANNELS]; /* 0x020, 1/65535 */
    uint32_t digital;        /* 0x028: output pins */
    uint32_t trigger;        /* 0x02C: level of the trigger output */
    uint32_t triggers;       /* 0x030: pulses so far */
    uint32_t trigger_ticks;  /* 0x034: compare value of the last one */
    uint32_t trigger_seen;   /* 0x038: counter when its interrupt came */
    uint32_t spare;
    /* 0x040: written by the owner */
    uint32_t entropy;        /* makes boot ids differ */
    uint32_t inputs;         /* 0x044: input pins */
    uint32_t hang;           /* 0x048: 1 the main loop, 2 the control pass stops for ever; 3 crashes */
    uint32_t holder;         /* 0x04C: which memory is plugged in: 0, 1; another number: none */
    uint32_t reserved[12];
    uint32_t adc[WORLD_ADC_CHANNELS]; /* 0x080: counts */
    uint32_t more[24];
    /* 0x100: edges, written at `head` by the owner, then a doorbell (WORLD_DOORBELL pending) */
    uint32_t head;
    uint32_t tail;           /* 0x104: read up to here by the firmware */
    uint32_t overrun;        /* 0x108: by the owner: edges that never fitted, counted */
    uint32_t rest[61];
    struct world_edge edges[WORLD_EDGES]; /* 0x200 */
};

#define WORLD_MAGIC 0x4D505332u /* 'MPS2' */
#define WORLD_DOORBELL 25u      /* an interrupt number this board leaves free */
#define WORLD ((volatile struct world *)(uintptr_t)0x21000000u)

_Static_assert(sizeof(struct world) == 0x400u, "the layout that others map");

#endif
