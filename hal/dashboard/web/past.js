// Past runs: the list, or one run with its curves.
import { COLOURS, Strips, when } from "insitu-dashboard";

export default {
  props: { listing: Array, run: Object, directory: String, trouble: String },
  template: `<div class="past">
    <header class="bar"><div class="who"><h1>{{ run ? run.title : 'Past runs' }}</h1><span v-if="run">{{ run.sample }}</span></div>
      <nav class="pages"><a v-if="run" href="/runs">All runs</a> &nbsp; <a href="/">Live</a></nav></header>
    <div class="content">
      <p v-if="trouble" class="notice bad" role="alert"><b aria-hidden="true">✕</b><span>{{ trouble }}</span></p>
      <section v-if="!run" class="sheet"><h2>{{ listing.length }} {{ listing.length === 1 ? 'run' : 'runs' }} in {{ directory }}</h2>
        <table><thead><tr><th>run</th><th>sample</th><th>start</th><th class="narrow">duration</th><th class="numbers">frames</th><th class="numbers">dropped</th><th class="narrow">state</th></tr></thead>
        <tbody><tr v-for="r in listing" :key="r.name" :title="r.trouble">
          <td><a v-if="!r.trouble" :href="'/runs?name=' + encodeURIComponent(r.name)">{{ r.title }}</a><span v-else>{{ r.title }}</span></td>
          <td>{{ r.sample }}</td><td>{{ r.start ? when(r.start) : '–' }}</td><td class="narrow">{{ r.duration }}</td><td class="numbers">{{ r.frames }}</td>
          <td class="numbers" :class="{lost: r.lost}">{{ r.lost ? '✕ ' : '' }}{{ r.dropped }}</td><td class="narrow">{{ r.state }}</td></tr></tbody></table></section>
      <template v-else>
        <section class="sheet"><dl class="facts"><div><dt>start</dt><dd>{{ when(run.start) }}</dd></div><div><dt>duration</dt><dd>{{ run.duration }}</dd></div>
          <div><dt>frames</dt><dd>{{ run.frames }}</dd></div><div><dt>dropped</dt><dd :class="{lost: run.lost}">{{ run.lost ? '✕ ' : '' }}{{ run.dropped }}</dd></div>
          <div v-for="f in run.facts" :key="f[0]"><dt>{{ f[0] }}</dt><dd>{{ f[1] }}</dd></div></dl></section>
        <section class="sheet" aria-label="curves">
          <div class="picks" role="group" aria-label="curves shown"><button v-for="c in run.curves" :key="c.path" :aria-pressed="c.path in colours ? 'true' : 'false'" @click="toggle(c.path)"
            :style="c.path in colours ? {color: 'var(' + colours[c.path] + ')'} : null">{{ c.path }}</button></div>
          <div ref="strips" class="strips" tabindex="0" role="img" :aria-label="'curves of ' + picked.join(', ')" :style="{height: Math.max(picked.length, 1) * 120 + 50 + 'px'}"></div>
          <p class="hint">Seconds since the start. Band: ± 2 standard uncertainties. Drag to pan, Ctrl and the wheel to zoom, double click for all; keys ← → + − Home.</p></section>
        <section v-if="run.picture" class="sheet"><h2>Picture</h2><img :src="'/runs/picture?name=' + encodeURIComponent(run.name)" alt="report of the run: frames, stimuli, clocks and frame intervals"></section>
        <section v-if="run.events.length" class="journal"><h2>What happened</h2><ol><li v-for="(e, i) in run.events" :key="i" :class="'k-' + e.kind"><time>{{ e.time.toFixed(2) }} s</time><b>{{ e.kind }}</b><span>{{ e.text }}</span></li></ol></section>
      </template>
    </div></div>`,
  data() {
    const first = new Map(); // what varies, one curve of each device
    for (const c of this.run?.curves ?? []) if (c.varies && !first.has(c.path.split(".")[0])) first.set(c.path.split(".")[0], c.path);
    return { picked: [...first.values()].slice(0, 4) };
  },
  computed: {
    colours() { return Object.fromEntries(this.picked.map((path, i) => [path, COLOURS[i % COLOURS.length]])); },
  },
  mounted() {
    document.title = this.run ? `${this.run.title} · past run` : "Past runs";
    if (!this.run) return;
    const ends = this.run.curves.flatMap((c) => [c.points[0][0], c.points.at(-1)[0]]);
    this.whole = [Math.min(0, ...ends), Math.max(1e-3, ...ends)];
    this.window = this.whole;
    const moved = (start, end) => {
      this.window = [start, Math.max(end, start + 1e-4)];
      this.draw();
    };
    this.strips = new Strips(this.$refs.strips, { relative: true, moved, live: () => moved(...this.whole) });
    this.draw();
  },
  beforeUnmount() {
    this.strips?.close();
  },
  methods: {
    when,
    toggle(path) {
      this.picked = this.picked.includes(path) ? this.picked.filter((p) => p !== path) : [...this.picked, path].slice(-COLOURS.length);
      this.$nextTick(() => this.draw());
    },
    draw() {
      const chosen = this.picked.map((path) => this.run.curves.find((c) => c.path === path));
      this.strips.show(chosen.map((c) => ({ ...c, label: c.path.replace(".", " · "), colour: this.colours[c.path] })), ...this.window);
    },
  },
};
