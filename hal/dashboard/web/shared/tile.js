// The tile of a device on the live page.
const SHAPES = { good: "●", stale: "◑", uncertain: "▲", bad: "✕", silent: "○", none: "·", idle: "○" };

// How long (s), as one would say it.
export function lasted(s) {
  const [step, unit] = s < 100 ? [1, "s"] : s < 6000 ? [60, "min"] : s < 360000 ? [3600, "h"] : [86400, "d"];
  return `${Math.max(0, Math.round(s / step))} ${unit}`;
}

// How far a reading can be trusted: a shape and a word, not a colour alone.
export const Quality = {
  props: ["quality", "reason", "brief", "age"],
  template: `<span class="quality" :class="'q-' + quality" :title="reason || word"><span aria-hidden="true">{{ shape }}</span>{{ ' ' }}<span :class="brief ? 'hidden' : 'word'">{{ word }}</span></span>`,
  computed: {
    shape() { return SHAPES[this.quality] ?? "·"; },
    word() { return this.quality === "none" ? "no reading yet" : this.quality + (this.age == null ? "" : ` ${lasted(this.age)}`); },
  },
};

// A device: its signals with their values, the most telling ones large and with a small curve.
export const Tile = {
  components: { Quality },
  props: ["device", "cells", "state", "colours", "now"],
  emits: ["plot"],
  template: `<article class="tile" :class="{trouble}" :aria-label="device.name">
    <header><h2 :title="device.name">{{ device.name }}</h2>
      <span v-if="state && state.state && state.state !== 'ready'" class="chip" :title="state.reason">{{ state.state }}</span>
      <span v-else class="make">{{ device.make }}</span></header>
    <template v-for="s in shown" :key="s.path">
      <div v-if="s.hinted" class="main" :class="'is-' + cell(s).quality">
        <div class="top"><span class="label">{{ s.name }}</span>
          <button v-if="s.number" class="pick" :aria-pressed="s.path in colours ? 'true' : 'false'"
            :style="s.path in colours ? {color: 'var(' + colours[s.path] + ')'} : null"
            :aria-label="'plot ' + s.path" :title="'plot ' + s.path" @click="$emit('plot', s.path)">{{ s.path in colours ? '━' : '∿' }}</button>
        </div>
        <div class="value" :class="width(s)" :data-path="s.path"><b>{{ big(s)[0] }}<small v-if="big(s)[1]">×{{ big(s)[1] }}</small></b><span class="unit">{{ cell(s).unit }}</span></div>
        <div class="below"><span v-if="cell(s).sigma">± {{ cell(s).sigma }}</span><span v-if="cell(s).to" class="to" title="setpoint">→ {{ cell(s).to }}</span>
          <Quality :quality="cell(s).quality" :reason="cell(s).reason" :age="age(s)" /></div>
        <p v-if="cell(s).reason && cell(s).quality !== 'silent'" class="reason">{{ cell(s).reason }}</p>
        <canvas v-if="s.number" class="spark" :data-spark="s.path" aria-hidden="true"></canvas>
      </div>
      <div v-else class="minor" :class="'is-' + cell(s).quality" :title="cell(s).reason || s.long">
        <button v-if="s.number" class="name" :aria-pressed="s.path in colours ? 'true' : 'false'" :title="'plot ' + s.path"
          :style="s.path in colours ? {color: 'var(' + colours[s.path] + ')'} : null" @click="$emit('plot', s.path)">{{ s.name }}</button>
        <span v-else class="name">{{ s.name }}</span>
        <span class="reading"><span class="number" :data-path="s.path">{{ cell(s).text }} <i>{{ cell(s).unit }}</i></span>
          <Quality :quality="cell(s).quality" :reason="cell(s).reason" brief="1" /></span>
      </div>
    </template>
    <button v-if="device.signals.length > first.length" class="more" :aria-expanded="all ? 'true' : 'false'" @click="all = !all">
      {{ all ? 'fewer' : (device.signals.length - first.length) + ' more' }}</button>
  </article>`,
  data: () => ({ all: false }),
  computed: {
    few() { return Math.max(3, this.device.signals.filter((s) => s.hinted).length); },
    first() { return this.device.signals.filter((s) => !s.target).slice(0, this.few); }, // a setpoint stands at its readback
    shown() { return this.all ? this.device.signals : this.first; },
    trouble() { return this.device.signals.some((s) => s.hinted && ["bad", "silent"].includes(this.cell(s).quality)); },
  },
  methods: {
    age(s) { return this.cell(s).heard == null ? null : (this.now - this.cell(s).heard) / 1000; },
    width(s) {
      const letters = this.cell(s).text.length + this.cell(s).unit.length;
      return letters > 16 ? "longer" : letters > 10 ? "long" : "";
    },
    big(s) { return this.cell(s).text.split("×"); },
    cell(s) { return this.cells[s.path] ?? { text: "–", sigma: "", unit: s.unit, quality: "none", reason: "", to: "" }; },
  },
};
