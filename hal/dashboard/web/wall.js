// The live page: header, alarms, tiles, detector, plots, journal. It asks the server a few times a second
// what has changed, and asks again only when it has drawn the answer.
import { COLOURS, Quality, Strips, Tile, clock, day, lasted, spark } from "insitu-dashboard";

const EVERY = 200; // ms between two questions: 5 Hz
const LOST = 4000; // ms without an answer after which what is shown is no longer now
const SELDOM = 2000; // ms between two questions of a page that nobody sees: its title tells of alarms
const THROTTLED = 150000; // ms without an answer that mean nothing then: browsers let such a page run once a minute
const ANSWER = 10000; // ms in which the dashboard says what came of a command
const HOLD = 1000; // ms to hold the stop button
const FEW = 3; // alarms that are shown whole: more of them must not push the readings off the screen
const SMALL = 120; // s of the small curves
const MARKED = ["trip", "acknowledge", "error"]; // what happened that is drawn into the plots
const STATES = {
  online: ["●", "online", "good"], offline: ["○", "offline", "silent"], dead: ["✕", "dead", "bad"], unknown: ["?", "unknown", "silent"],
};

export default {
  components: { Tile, Quality },
  props: { lab: String, runs: Boolean, spans: Object },
  emits: ["ask", "stop", "acknowledge"],
  template: `<div class="wall" :class="{lost}">
    <a class="skip" href="#tiles">To the readings</a>
    <header class="bar">
      <div class="who"><h1>{{ head.lab || 'no lab yet' }}</h1>
        <span class="state" :class="'q-' + state[2]" role="status"><span aria-hidden="true">{{ state[0] }}</span> {{ state[1] }}</span>
        <nav v-if="others.length" aria-label="other labs"><a v-for="l in others" :key="l" :href="'/?lab=' + encodeURIComponent(l)">{{ l }}</a></nav>
      </div>
      <div class="when"><time>{{ time }}</time><span>{{ date }}</span></div>
      <nav class="pages"><a v-if="runs" href="/runs">Past runs</a></nav>
      <button v-if="may('stop')" class="stop" :class="{held, busy: stopping}" :aria-disabled="stopping" aria-describedby="stop-how"
        @pointerdown="press" @pointerup="release" @pointerleave="held && release($event, true)" @pointercancel="release($event, true)"
        @click="clicked" @contextmenu.prevent><span class="fill" aria-hidden="true"></span><span>{{ stopping ? 'STOPPING' : 'STOP' }}</span></button>
      <span id="stop-how" class="hidden">Takes every device to its safe state. Hold for a second, or press and confirm.</span>
    </header>

    <section class="notices" aria-label="alarms" aria-live="assertive">
      <p v-if="lost" class="notice bad"><b aria-hidden="true">✕</b><span>No answer from the dashboard: what is shown is {{ lasted(age) }} old.</span></p>
      <p v-if="trouble" class="notice bad"><b aria-hidden="true">✕</b><span>{{ trouble }}</span></p>
      <p v-if="head.state === 'dead'" class="notice bad"><b aria-hidden="true">✕</b>
        <span>The lab's program died, or its network went. Nothing below is now.</span></p>
      <p v-if="head.state === 'offline'" class="notice calm"><b aria-hidden="true">○</b>
        <span>The lab was closed in order. Nothing below is now.</span></p>
      <p v-if="head.twins" class="notice bad"><b aria-hidden="true">✕</b>
        <span>Two labs on this broker are called {{ head.lab }}: what they say is mixed up here, and STOP may stop both. Give each a name of its own.</span></p>
      <p v-if="said" class="notice" :class="said.ok ? 'fine' : 'bad'" role="alert"><b aria-hidden="true">{{ said.ok ? '●' : '✕' }}</b>
        <span>{{ said.text }}</span><button @click="said = null">Close</button></p>
      <p v-if="head.alarms.length > FEW" class="count">{{ head.alarms.length }} alarms, {{ pressing }} of them nobody has acknowledged</p>
      <div v-if="head.alarms.length" class="alarms" :class="{storm: head.alarms.length > FEW}" :tabindex="head.alarms.length > FEW ? 0 : null">
        <div v-for="a in head.alarms" :key="a.name" class="notice" :class="[a.severity, {done: a.acknowledged}]">
          <b aria-hidden="true">{{ a.severity === 'warning' ? '▲' : '◆' }}</b>
          <span><strong>{{ a.severity === a.name ? a.name : a.severity + ' · ' + a.name }}</strong> <time>{{ clock(a.time) }}</time><br>{{ a.text }}
            <em v-if="!a.active"> (over)</em><em v-if="a.acknowledged"> acknowledged{{ a.by ? ' by ' + a.by : '' }}</em></span>
          <button v-if="!a.acknowledged && may('acknowledge')" :disabled="asked === a.name" @click="acknowledge(a)">
            Acknowledge<span class="hidden"> {{ a.name }}</span></button>
        </div>
      </div>
      <p v-if="ahead" class="notice calm"><b aria-hidden="true">▲</b>
        <span>The lab's clock is {{ lasted(Math.abs(ahead)) }} {{ ahead > 0 ? 'ahead of' : 'behind' }} the dashboard's.</span></p>
      <p v-if="behind > 2" class="notice bad"><b aria-hidden="true">▲</b>
        <span>Readings come {{ behind }} s late: the network, or the dashboard's machine, can't keep up.</span></p>
      <p v-if="head.outbox" class="notice calm"><b aria-hidden="true">▲</b><span>{{ head.outbox }}</span></p>
    </section>

    <div class="board" :class="{gone: state[1] !== 'online'}">
      <section id="tiles" class="tiles" aria-label="readings" tabindex="-1">
        <Tile v-for="d in devices" :key="d.name" :device="d" :cells="cells" :state="head.devices[d.name]" :colours="colours" :now="second" @plot="toggle" />
        <p v-if="!devices.length" class="empty">Waiting for a lab to speak on the broker.</p>
      </section>
      <div class="side">
        <section v-for="d in head.detectors" :key="d.name" class="detector" :aria-label="'detector ' + d.name">
          <h2>{{ d.name }}</h2>
          <dl>
            <div><dt>rate</dt><dd><b>{{ d.rate }}</b> <i>1/s</i></dd></div>
            <div><dt>frames</dt><dd>{{ d.frames }}</dd></div>
            <div :class="{lostframes: d.lost}"><dt>dropped</dt><dd><span v-if="d.lost" aria-hidden="true">✕ </span>{{ d.dropped }}</dd></div>
            <div><dt>with a pulse</dt><dd>{{ d.matched }}</dd></div>
            <div><dt>time known to</dt><dd>{{ d.bound }}</dd></div>
            <div><dt>sync</dt><dd><Quality :quality="d.sync" /></dd></div>
          </dl>
        </section>
        <section class="plots" aria-label="plots" v-show="devices.length">
          <div class="tools" role="toolbar" aria-label="window of the plots">
            <button v-for="(seconds, name) in spans" :key="name" :aria-pressed="!end && span === seconds ? 'true' : 'false'" @click="choose(seconds)">{{ name }}</button>
            <span class="gap"></span>
            <button @click="zoom(2)" aria-label="show more time" title="show more time">−</button>
            <button @click="zoom(0.5)" aria-label="show less time" title="show less time">+</button>
            <button :aria-pressed="end ? 'false' : 'true'" class="live" @click="live">{{ end ? 'Back to now' : 'Live' }}</button>
          </div>
          <div ref="strips" class="strips" tabindex="0" role="img" :aria-label="described" :style="{height: tall}"></div>
          <p class="hint">Band: ± 2 standard uncertainties, and the spread between two points. Drag to pan, Ctrl and the wheel or two fingers to zoom; keys ← → + − Home.</p>
        </section>
        <section class="clocks" v-if="head.clocks.length" aria-label="clocks"><h2>Clocks</h2>
          <table><thead><tr><th>clock</th><th>known to</th><th>σ</th><th>rate</th><th></th></tr></thead>
          <tbody><tr v-for="c in head.clocks" :key="c.name" :title="c.reason"><th scope="row">{{ c.name }}</th><td>{{ c.bound }}</td><td>{{ c.sigma }}</td><td>{{ c.rate }}</td>
            <td><Quality :quality="c.usable ? 'good' : 'bad'" :reason="c.reason" /></td></tr></tbody></table></section>
        <section class="journal" v-if="head.events.length" aria-label="journal"><h2>What happened</h2>
          <ol><li v-for="(e, i) in head.events" :key="e.time + e.text" :class="'k-' + e.kind"><time>{{ clock(e.time) }}</time><b>{{ e.kind }}</b><span>{{ e.text }}</span></li></ol></section>
        <p v-if="head.unreadable" class="hint">Messages on this broker: {{ head.unreadable }}</p>
      </div>
    </div>

    <dialog ref="confirm" aria-labelledby="stop-title" @close="opened = 0">
      <h2 id="stop-title">Take every device of {{ head.lab }} to its safe state?</h2>
      <p>Heaters off, sources to zero, valves and beam as declared. The script that runs is ended.</p>
      <div><button class="yes" ref="yes" @click="confirmed">Stop now</button><button @click="$refs.confirm.close()">Cancel</button></div>
    </dialog>
  </div>`,
  data() {
    return {
      FEW,
      head: { lab: this.lab, state: "unknown", may: [], alarms: [], detectors: [], clocks: [], devices: {}, events: [], labs: [], outbox: "", unreadable: "" },
      devices: [], cells: {}, plots: null, span: 60, end: null, trouble: "", behind: 0, ahead: 0, said: null, asked: "", now: 0, second: 0,
      lost: false, age: 0, held: false, stopping: false, opened: 0, time: "", date: "", wide: true,
    };
  },
  computed: {
    pressing() { return this.head.alarms.filter((a) => !a.acknowledged).length; },
    title() { return `${this.pressing ? `(${this.pressing}) ` : ""}${this.head.lab || "Lab"} · ${this.state[1]}`; },
    state() { return STATES[this.lost || this.trouble ? "unknown" : this.head.state] ?? STATES.unknown; }, // what is not heard of is not online
    others() { return this.head.labs.filter((l) => l !== this.head.lab); },
    colours() { return Object.fromEntries((this.plots ?? []).map((path, i) => [path, COLOURS[i % COLOURS.length]])); },
    tall() { const n = Math.max((this.plots ?? []).length, 1); return `max(${n * (this.wide ? 96 : 110) + 50}px, ${this.wide ? 'min(52vh, 460px)' : '0px'})`; },
    described() {
      const parts = (this.plots ?? []).map((p) => `${p} now ${this.cells[p]?.text ?? "unknown"} ${this.cells[p]?.unit ?? ""}`);
      return `Plot of the ${this.end ? "past" : "last"} ${Math.round(this.span)} s: ${parts.join(", ") || "nothing chosen"}`;
    },
  },
  watch: { title(now) { document.title = now; } },
  created() {
    // Not reactive: they change five times a second and are drawn on canvases.
    this.curves = {};
    this.small = {};
    this.sparked = 0; // s, lab time: up to where there are small curves
    this.revision = 0;
    this.asking = 0; // when the question went out that is not answered yet
    this.went = 0; // when the last question went out
    this.heard = this.beaten = performance.now();
    this.wall = Date.now();
    this.ticks = 0;
    this.chosen = null; // paths of the plots that somebody wants, here or at the last visit
    this.headText = "";
    this.drew = this.cost = 0; // ms: when the plots were last drawn, and what it took
  },
  mounted() {
    const narrow = window.matchMedia("(max-width: 720px)");
    const fit = () => (this.wide = !narrow.matches);
    fit();
    narrow.addEventListener("change", fit);
    try {
      const kept = JSON.parse(localStorage.getItem("insitu " + this.lab) ?? "null");
      if (Array.isArray(kept?.plots)) this.chosen = kept.plots.filter((p) => typeof p === "string").slice(0, COLOURS.length);
      if (kept?.span > 0) this.span = kept.span;
    } catch { /* a browser that keeps nothing */ }
    this.strips = new Strips(this.$refs.strips, { moved: (start, end) => this.move(start, end), live: () => this.live() });
    this.timer = setInterval(() => this.beat(), EVERY);
    this.beat();
  },
  beforeUnmount() {
    clearInterval(this.timer);
    this.strips.close();
  },
  methods: {
    clock,
    lasted,
    may(what) { return this.head.may.includes(what); },

    // ---- asking and being told
    beat() {
      const [now, wall] = [performance.now(), Date.now()];
      const slept = wall - this.wall - (now - this.beaten); // ms: where the machine sleeps, this clock sleeps with it
      if (slept > 1000) [this.heard, this.asking, this.went] = [this.heard - slept, this.asking && this.asking - slept, this.went - slept];
      [this.beaten, this.wall] = [now, wall];
      this.lost = now - this.heard > (document.hidden ? THROTTLED : LOST);
      this.age = (now - this.heard) / 1000;
      this.time = clock(wall);
      this.date = day(wall);
      if (this.asking && now - this.asking < LOST) return; // one question at a time: a slow phone asks less often
      if (document.hidden && now - this.went < SELDOM) return;
      this.asking = this.went = now;
      this.ticks += 1;
      // What is not drawn is not asked for.
      const plots = document.hidden || now - this.drew < this.wait() ? [] : (this.plots ?? []);
      const have = {};
      for (const path of plots) {
        const c = this.curves[path];
        if (c) have[path] = { last: c.points.at(-1)?.[0], order: c.order, width: c.width };
      }
      if (this.ticks % 300 === 1) this.sparked = 0; // what came late is in it then
      const sparks = document.hidden || this.ticks % 5 !== 1 ? null : this.sparked;
      this.$emit("ask", { lab: this.head.lab || this.lab || "", since: this.revision, plots, span: this.span, end: this.end, have, sparks });
    },
    take(answer) {
      this.asking = 0;
      this.heard = performance.now();
      this.trouble = answer.trouble ?? "";
      if (!answer.revision) return;
      this.revision = answer.revision;
      this.now = answer.now;
      this.at = answer.at;
      this.second = Math.round(this.now / 1000) * 1000; // what tiles see: they are not drawn anew for each answer
      this.behind = answer.behind;
      this.ahead = answer.ahead;
      if (answer.header) {
        const text = JSON.stringify(answer.header);
        if (text !== this.headText) {
          this.headText = text;
          this.head = answer.header;
        }
      }
      if (answer.layout) {
        this.devices = answer.layout;
        const known = new Set(this.devices.flatMap((d) => d.signals.map((s) => s.path)));
        for (const path of Object.keys(this.cells)) if (!known.has(path)) delete this.cells[path];
        // What was chosen may have been another lab's; till somebody has chosen here, devices that come are drawn as well.
        const { chosen } = this;
        if (chosen && (!chosen.length || chosen.some((path) => known.has(path)))) this.plots = chosen;
        else if (answer.favourites.length) this.plots = answer.favourites;
      }
      Object.assign(this.cells, answer.cells);
      const start = (this.end ?? this.now) - this.span * 1000;
      for (const [path, c] of Object.entries(answer.curves ?? {})) {
        const old = this.curves[path];
        if (c.more && old) {
          const first = c.points[0]?.[0] ?? Infinity;
          let from = old.points.length;
          while (from && old.points[from - 1][0] >= first) from -= 1;
          let skip = 0;
          while (skip < from - 1 && old.points[skip + 1][0] < start) skip += 1;
          this.curves[path] = { ...c, points: [...old.points.slice(skip, from), ...c.points] };
        } else this.curves[path] = c;
      }
      if (answer.sparks) {
        const { from, points } = answer.sparks;
        const last = this.now / 1000;
        for (const path of new Set([...Object.keys(this.small), ...Object.keys(points)])) {
          const old = (this.small[path] ?? []).filter((p) => p[0] < from && p[0] >= last - SMALL);
          this.small[path] = [...old, ...(points[path] ?? [])];
        }
        this.sparked = Math.floor(last);
        setTimeout(() => this.sketch());
      }
      if (Object.keys(answer.curves ?? {}).length) setTimeout(() => this.draw()); // a task of its own: a finger that comes between them is not kept waiting
    },
    wait() {
      // ms between two drawings: a few pixels of time are the least that shows; and drawing takes a fifth of a slow
      // machine, not all of it.
      return Math.max(this.end === null ? Math.min(this.span * 4, 3000) : 0, 5 * this.cost);
    },
    draw() {
      const began = performance.now();
      const end = this.end ?? this.now;
      const facts = Object.fromEntries(this.devices.flatMap((d) => d.signals.map((s) => [s.path, s])));
      const shown = (this.plots ?? []).filter((path) => this.curves[path]).map((path) => ({
        path, label: path.replace(".", " · ").replaceAll("_", " "), unit: facts[path]?.unit ?? "", colour: this.colours[path],
        steps: facts[path]?.steps ?? false, points: this.curves[path].points,
      }));
      const marks = this.head.events.filter((e) => MARKED.includes(e.kind)).map((e) => ({ at: e.time, kind: e.kind }));
      this.strips.show(shown, end - this.span * 1000, end, marks);
      this.drew = performance.now();
      this.cost = this.drew - began;
    },
    sketch() {
      const style = getComputedStyle(this.$el);
      const seen = [...this.$el.querySelectorAll("[data-spark]")].filter((c) => c.checkVisibility?.({ contentVisibilityAuto: true }) ?? true);
      const gaps = Object.fromEntries(this.devices.flatMap((d) => d.signals.map((s) => [s.path, s.gap])));
      const some = () => {
        for (const canvas of seen.splice(0, 8)) {
          const path = canvas.dataset.spark;
          spark(canvas, this.small[path] ?? [], this.now / 1000, SMALL, gaps[path] ?? 3, style.getPropertyValue(this.colours[path] ?? "--faint").trim());
        }
        if (seen.length) setTimeout(some, 20);
      };
      some();
    },

    // ---- the window of the plots
    keep() {
      try {
        localStorage.setItem("insitu " + this.lab, JSON.stringify({ plots: this.chosen, span: this.span }));
      } catch { /* a browser that keeps nothing */ }
    },
    toggle(path) {
      const plots = this.plots ?? [];
      this.plots = plots.includes(path) ? plots.filter((p) => p !== path) : [...plots, path].slice(-COLOURS.length);
      if (!this.plots.includes(path)) delete this.curves[path];
      this.chosen = this.plots;
      this.drew = 0; // ask at once
      this.keep();
    },
    choose(seconds) {
      this.span = seconds;
      this.end = null;
      this.drew = 0;
      this.keep();
    },
    live() {
      this.end = null;
      this.drew = 0;
    },
    zoom(factor) {
      const end = this.end ?? this.now;
      const start = end - this.span * 1000;
      this.end === null ? this.move(end - (end - start) * factor, end) : this.move((start + end) / 2 - ((end - start) / 2) * factor, (start + end) / 2 + ((end - start) / 2) * factor);
    },
    move(start, end) {
      this.span = Math.min(Math.max((end - start) / 1000, 1), 172800);
      this.end = end >= this.now - this.span * 5 ? null : end; // within half a percent of now: follows
      this.draw();
    },

    // ---- stop and acknowledge
    press(event) {
      if (event.button !== 0 || this.stopping) return;
      this.held = true;
      this.swallow = false;
      this.holding = setTimeout(() => {
        this.held = false;
        this.swallow = true; // the click that comes with letting go
        this.stop();
      }, HOLD);
    },
    release(_, away) {
      clearTimeout(this.holding);
      this.held = false;
      if (away) this.swallow = false;
    },
    clicked() {
      if (this.swallow) this.swallow = false;
      else if (!this.stopping) {
        this.$refs.confirm.showModal();
        this.$refs.yes.focus();
        this.opened = performance.now();
      }
    },
    confirmed() {
      if (performance.now() - this.opened < 250) return; // a key that repeats is no confirmation
      this.$refs.confirm.close();
      this.stop();
    },
    stop() {
      this.stopping = true;
      this.command("stop", {});
    },
    acknowledge(alarm) {
      this.asked = alarm.name;
      this.command("acknowledge", { alarm: alarm.name, time: alarm.time });
    },
    command(verb, about) {
      this.said = null;
      clearTimeout(this.waiting);
      if (this.lost) return this.answered({ ok: false, text: `${verb} was NOT sent: the dashboard does not answer; go to the instruments` });
      const text = `no answer from the dashboard; whether ${verb} was sent is not known: go to the instruments`;
      this.waiting = setTimeout(() => this.answered({ ok: false, text }), ANSWER);
      // When it was pressed, on the dashboard's clock: what a lost connection delivers much later is refused.
      this.$emit(verb, { lab: this.head.lab, pressed: this.at + performance.now() - this.heard, ...about });
    },
    answered(what) {
      clearTimeout(this.waiting);
      this.stopping = false;
      this.asked = "";
      this.said = what;
      if (what.ok) setTimeout(() => this.said === what && (this.said = null), 15000);
    },
  },
};
