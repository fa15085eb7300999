// Past runs: the list, or one run with its curves. What is read from files comes later than the page: `take` is told.
import { COLOURS, Strips, elapsed, when } from "insitu-dashboard";

const PAUSE = 150; // ms without a movement, after which a window is asked for in full

export default {
  props: { name: String, directory: String },
  emits: ["want"],
  template: `<div class="past">
    <header class="bar"><div class="who"><h1>{{ run ? run.title : 'Past runs' }}</h1><span v-if="run">{{ run.sample }}</span></div>
      <nav class="pages"><a v-if="name" href="/runs">All runs</a> <a href="/">Live</a></nav></header>
    <div class="content">
      <p v-if="trouble" class="notice bad" role="alert"><b aria-hidden="true">✕</b><span>{{ trouble }}</span></p>
      <p v-else-if="!run && !listing" class="empty" role="status">Reading {{ name || directory }} …</p>
      <section v-if="listing" class="sheet"><h2>{{ listing.length }} {{ listing.length === 1 ? 'run' : 'runs' }} in {{ directory }}</h2>
        <p v-if="!listing.length" class="empty">Runs that are recorded into this directory appear here.</p>
        <table v-else><thead><tr><th>run</th><th>sample</th><th>start</th><th class="narrow">duration</th><th class="numbers">frames</th><th class="numbers">dropped</th><th class="narrow">state</th></tr></thead>
        <tbody><template v-for="r in listing" :key="r.name"><tr v-if="!r.trouble">
          <td><a :href="'/runs?name=' + encodeURIComponent(r.name)">{{ r.title }}</a></td>
          <td>{{ r.sample }}</td><td>{{ r.start ? when(r.start) : '–' }}</td><td class="narrow">{{ r.duration }}</td><td class="numbers">{{ r.frames }}</td>
          <td class="numbers" :class="{lost: r.lost}">{{ r.lost ? '✕ ' : '' }}{{ r.dropped }}</td><td class="narrow">{{ r.state }}</td></tr>
          <tr v-else class="broken"><td>{{ r.name }}</td><td colspan="6"><b aria-hidden="true">✕</b> {{ r.trouble }}</td></tr></template></tbody></table></section>
      <template v-if="run">
        <section class="sheet"><dl class="facts"><div><dt>start</dt><dd>{{ when(run.start) }}</dd></div><div><dt>duration</dt><dd>{{ run.duration }}</dd></div>
          <div><dt>frames</dt><dd>{{ run.frames }}</dd></div><div><dt>dropped</dt><dd :class="{lost: run.lost}">{{ run.lost ? '✕ ' : '' }}{{ run.dropped }}</dd></div>
          <div v-for="f in run.facts" :key="f[0]"><dt>{{ f[0] }}</dt><dd>{{ f[1] }}</dd></div></dl></section>
        <section class="sheet" aria-label="curves" :aria-busy="busy ? 'true' : 'false'">
          <p v-if="!run.signals.length" class="empty">No number was read in this run.</p>
          <template v-else>
          <div class="picks" role="group" aria-label="curves shown"><button v-for="c in run.signals" :key="c.path" :aria-pressed="c.path in colours ? 'true' : 'false'" @click="toggle(c.path)"
            :style="c.path in colours ? {color: 'var(' + colours[c.path] + ')'} : null">{{ c.path }}</button></div>
          <div ref="strips" class="strips" tabindex="0" role="img" :aria-label="'curves of ' + picked.join(', ')" :style="{height: Math.max(picked.length, 1) * 120 + 50 + 'px'}"></div>
          <p class="hint">{{ busy ? 'Reading … ' : '' }}Hours, minutes and seconds since the start. Band: ± 2 standard uncertainties, and the spread between two points. Drag to pan, Ctrl and the wheel or two fingers to zoom, down to single readings; double click for all; keys ← → + − Home.</p></template></section>
        <section v-if="run.picture" class="sheet"><h2>Picture</h2><img :src="'/runs/picture?name=' + encodeURIComponent(run.name)" alt="report of the run: frames, stimuli, clocks and frame intervals"></section>
        <section v-if="run.events.length" class="journal sheet"><h2>What happened</h2><ol><li v-for="(e, i) in run.events" :key="i" :class="'k-' + e.kind"><time>{{ elapsed(1000 * e.time) }}</time><b>{{ e.kind }}</b><span>{{ e.text }}</span></li></ol>
          <p v-if="run.more_events" class="hint">{{ run.more_events }} more in the file.</p></section>
      </template>
    </div></div>`,
  data: () => ({ listing: null, run: null, trouble: "", picked: [], busy: false }),
  computed: {
    colours() { return Object.fromEntries(this.picked.map((path, i) => [path, COLOURS[i % COLOURS.length]])); },
  },
  created() {
    this.all = {}; // by path: points of the whole run
    this.near = {}; // by path: {begin, end, points} of a window
    this.number = 0; // of the last question
  },
  mounted() { document.title = "Past runs"; },
  beforeUnmount() {
    clearTimeout(this.pausing);
    this.strips?.close();
  },
  methods: {
    when,
    elapsed,
    take(found) {
      if ("trouble" in found) {
        this.trouble = found.trouble;
        this.busy = false;
      } else if (found.listing) this.listing = found.listing;
      else if (found.run) this.open(found.run);
      else if (found.window) this.came(found.window);
    },
    open(run) {
      this.run = run;
      document.title = `${run.title} · past run`;
      const first = new Map(); // what varies, one curve of each device
      for (const c of run.signals) if (c.varies && !first.has(c.path.split(".")[0])) first.set(c.path.split(".")[0], c.path);
      this.picked = [...first.values()].slice(0, 4);
      const ends = run.signals.flatMap((c) => c.span);
      this.whole = this.window = [1000 * Math.min(0, ...ends), 1000 * Math.max(0.01, ...ends)]; // ms
      if (run.signals.length) this.$nextTick(() => this.begin());
    },
    begin() {
      const moved = (start, end) => {
        const width = Math.max(end - start, 10);
        this.window = [start, start + width];
        this.draw();
        clearTimeout(this.pausing);
        this.pausing = setTimeout(() => this.ask(), PAUSE);
      };
      this.strips = new Strips(this.$refs.strips, { relative: true, moved, live: () => moved(...this.whole) });
      this.ask();
    },
    ask() {
      const [start, end] = this.window;
      const isAll = start <= this.whole[0] && end >= this.whole[1];
      // A window and what lies beside it, so that a drag does not come to an empty place.
      const [begin, until] = isAll ? this.whole : [start - (end - start) / 2, end + (end - start) / 2];
      const missing = (path) => !this.all[path] || (!isAll && !this.covers(path));
      const paths = this.picked.filter(missing);
      if (!paths.length) return;
      const unknown = paths.filter((path) => !this.all[path]);
      this.asked = unknown.length ? { paths: unknown, begin: this.whole[0], end: this.whole[1], all: true } : { paths, begin, end: until, all: false };
      this.busy = true;
      this.number += 1;
      this.$emit("want", { paths: this.asked.paths, begin: this.asked.begin / 1000, end: this.asked.end / 1000, number: this.number });
    },
    covers(path) {
      const near = this.near[path];
      const [start, end] = this.window;
      return near && near.begin <= start && near.end >= end && end - start > (near.end - near.begin) / 4;
    },
    came({ number, curves }) {
      if (number !== this.number) return; // the window was moved meanwhile
      const { begin, end, all } = this.asked;
      for (const [path, found] of Object.entries(curves)) {
        const points = found.map((p) => [p[0] * 1000, p[1], p[2], p[3]]);
        if (all) this.all[path] = points;
        else this.near[path] = { begin, end, points };
      }
      this.busy = false;
      this.draw();
      this.ask(); // what is still missing
    },
    toggle(path) {
      this.picked = this.picked.includes(path) ? this.picked.filter((p) => p !== path) : [...this.picked, path].slice(-COLOURS.length);
      this.$nextTick(() => {
        this.draw();
        this.ask();
      });
    },
    draw() {
      const facts = Object.fromEntries(this.run.signals.map((c) => [c.path, c]));
      const chosen = this.picked.filter((path) => this.all[path]).map((path) => ({
        ...facts[path], label: path.replace(".", " · "), colour: this.colours[path], points: this.covers(path) ? this.near[path].points : this.all[path],
      }));
      const marks = this.run.events.filter((e) => e.grave).map((e) => ({ at: e.time * 1000, kind: e.kind }));
      this.strips.show(chosen, ...this.window, marks);
    },
  },
};
