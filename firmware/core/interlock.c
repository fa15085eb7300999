/* What must hold for anything to be on: watched signals and digital inputs. */
#include "interlock.h"
#include "crc.h"
#include <string.h>

void interlocks_init(struct interlocks *interlocks) { memset(interlocks, 0, sizeof *interlocks); }

/* Whether some signal trips it: one that nothing can trip would be taken for protection. */
static bool interlock_can_trip(const struct msg_interlock *rule)
{
    int32_t full = board_facts()->adc_full_counts;
    if (rule->input >= board_facts()->adc_channels || rule->passes == 0u) {
        return false;
    }
    switch (rule->kind) {
    case INTERLOCK_KIND_ABOVE:
        return rule->threshold < full;
    case INTERLOCK_KIND_BELOW:
        return rule->threshold > 0;
    case INTERLOCK_KIND_STEP: /* after a step the signal differs from its past for as many passes as the window has */
        return rule->threshold > 0 && rule->threshold < full && rule->window <= INTERLOCK_WINDOW &&
               rule->passes <= rule->window;
    default:
        return false;
    }
}

bool interlocks_set(struct interlocks *interlocks, uint8_t which, const struct msg_interlock *rule)
{
    if (which >= INTERLOCK_COUNT || (rule->kind != INTERLOCK_KIND_OFF && !interlock_can_trip(rule))) {
        return false;
    }
    memset(&interlocks->analogue[which], 0, sizeof interlocks->analogue[which]);
    if (rule->kind != INTERLOCK_KIND_OFF) { /* else all zeros: one form, one checksum */
        interlocks->analogue[which].rule = *rule;
    }
    return true;
}

uint16_t interlocks_checksum(const struct interlocks *interlocks)
{
    uint8_t bytes[INTERLOCK_COUNT * MSG_INTERLOCK_SIZE + 4u];
    uint8_t *p = bytes;
    for (size_t i = 0; i < INTERLOCK_COUNT; i++) {
        p += msg_interlock_pack(&interlocks->analogue[i].rule, p);
    }
    wire_put_u16(&p, interlocks->mask);
    wire_put_u16(&p, interlocks->level);
    return crc_add(CRC_START, bytes, (size_t)(p - bytes));
}

static bool interlock_stepped(const struct interlock *interlock, int16_t now)
{
    uint8_t back = interlock->filled < interlock->rule.window ? interlock->filled : interlock->rule.window;
    for (uint32_t i = 1; i <= back; i++) {
        int32_t before = interlock->past[(interlock->at + INTERLOCK_WINDOW - i) % INTERLOCK_WINDOW];
        int32_t moved = now > before ? now - before : before - now;
        if (moved > interlock->rule.threshold) {
            return true;
        }
    }
    return false;
}

static enum fault interlock_pass(struct interlock *interlock)
{
    const struct msg_interlock *rule = &interlock->rule;
    if (rule->kind == INTERLOCK_KIND_OFF) {
        return FAULT_NONE;
    }
    int16_t now = board_adc(rule->input);
    bool wrong = false;
    if (now < 0) {
        wrong = true; /* no value is not a low one: nobody watches any more */
    } else if (rule->kind == INTERLOCK_KIND_STEP) {
        wrong = interlock_stepped(interlock, now);
        interlock->past[interlock->at] = now;
        interlock->at = (uint8_t)((interlock->at + 1u) % INTERLOCK_WINDOW);
        if (interlock->filled < INTERLOCK_WINDOW) {
            interlock->filled++;
        }
    } else {
        wrong = rule->kind == INTERLOCK_KIND_ABOVE ? now > rule->threshold : now < rule->threshold;
    }
    interlock->seen = now;
    interlock->wrong = (uint8_t)(!wrong ? 0u : interlock->wrong < 255u ? interlock->wrong + 1u : 255u);
    if (interlock->wrong < rule->passes) {
        return FAULT_NONE;
    }
    return now < 0 ? FAULT_ADC_DEAD : rule->kind == INTERLOCK_KIND_STEP ? FAULT_PRESSURE_STEP : FAULT_LEVEL;
}

enum fault interlocks_pass(struct interlocks *interlocks, int32_t *seen)
{
    enum fault fault = FAULT_NONE;
    for (size_t i = 0; i < INTERLOCK_COUNT; i++) { /* all of them: each keeps its own past */
        enum fault one = interlock_pass(&interlocks->analogue[i]);
        if (one != FAULT_NONE && fault == FAULT_NONE) {
            fault = one;
            *seen = interlocks->analogue[i].seen;
        }
    }
    interlocks->input = board_digital_in();
    if (fault == FAULT_NONE && ((interlocks->input ^ interlocks->level) & interlocks->mask) != 0u) {
        fault = FAULT_INTERLOCK_INPUT;
        *seen = interlocks->input;
    }
    return fault;
}
