// Curves one below the other over one axis of time, as on a strip-chart recorder, each with its band of uncertainty.
// The window is moved by dragging, by Ctrl and the wheel, by two fingers, and by the keys; who owns the strips is told.
import { echarts } from "nicegui-echart";

const RAISED = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };
const [TOP, BOTTOM, BETWEEN, LEFT, RIGHT] = [24, 26, 30, 72, 24]; // px: above, below, between, left, right

export function number(v) {
  if (v === 0) return "0";
  const power = Math.floor(Math.log10(Math.abs(v)) + 1e-9);
  if (power > -4 && power < 5) return String(+v.toPrecision(5)).replace("-", "−");
  const mantissa = +(v / 10 ** power).toPrecision(3);
  const raised = [...String(power)].map((c) => RAISED[c]).join("");
  const before = Math.abs(mantissa) === 1 ? "" : `${Math.abs(mantissa)}×`;
  return `${mantissa < 0 ? "−" : ""}${before}10${raised}`;
}

const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 10e3, 15e3, 30e3].concat(
  [1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440].map((minutes) => minutes * 60e3),
);

// Time since the start of a run (ms) as a stop-watch shows it.
export function elapsed(ms) {
  const s = Math.abs(ms) / 1000;
  const [h, m, rest] = [Math.floor(s / 3600), Math.floor(s / 60) % 60, s % 60];
  const seconds = Number.isInteger(rest) ? String(rest).padStart(2, "0") : rest.toFixed(3).padStart(6, "0");
  return `${ms < 0 ? "−" : ""}${h}:${String(m).padStart(2, "0")}:${seconds}`;
}

// A pressure that spans decades is read on a logarithmic axis.
function logarithmic(points, unit) {
  if (!/^(Pa|hPa|kPa|mbar|bar|Torr)$/.test(unit)) return false;
  let [low, high] = [Infinity, -Infinity];
  for (const p of points) {
    if (p[1] === null) continue;
    if (p[1] <= 0) return false;
    [low, high] = [Math.min(low, p[1]), Math.max(high, p[3] ?? p[1])];
  }
  return high / low > 100;
}

export class Strips {
  // moved(start, end): the person moved the window (ms, or whatever the axis counts); live(): back to now.
  constructor(element, { relative = false, moved, live }) {
    this.element = element;
    this.relative = relative;
    this.zero = relative ? 0 : -60000 * new Date().getTimezoneOffset(); // ms: marks are at full hours of the wall clock
    this.moved = moved;
    this.live = live;
    this.curves = [];
    this.marks = [];
    this.window = [0, 1];
    this.shape = "";
    this.chart = echarts.init(element, null, { renderer: "canvas" });
    this.observer = new ResizeObserver(() => {
      this.chart.resize();
      this.shape = "";
      this.draw();
    });
    this.observer.observe(element);
    this.scheme = window.matchMedia("(prefers-color-scheme: dark)");
    this.repaint = () => ((this.shape = ""), this.draw());
    this.scheme.addEventListener("change", this.repaint);
    this._listen();
  }

  close() {
    this.observer.disconnect();
    this.scheme.removeEventListener("change", this.repaint);
    this.chart.dispose();
  }

  // curves: [{path, label, unit, colour (a CSS variable), steps, points: [[t, value, low, high]]}]; marks: [{at, kind}]
  show(curves, start, end, marks = []) {
    this.curves = curves;
    this.marks = marks;
    this.window = [start, end];
    this.draw();
  }

  draw() {
    const { curves } = this;
    if (!this.element.clientHeight) return;
    const logs = curves.map((c) => logarithmic(c.points, c.unit));
    const shape = JSON.stringify([curves.map((c) => [c.path, c.colour, c.label]), logs]);
    if (shape !== this.shape) {
      this.shape = shape;
      this.chart.setOption(this._option(logs), { notMerge: true });
    }
    const { zero } = this;
    const [min, max] = this.window.map((t) => t + zero);
    this.chart.setOption(
      {
        xAxis: curves.map(() => ({ min, max, minInterval: this._step(), maxInterval: this._step() })),
        series: curves.flatMap((c, i) => {
          const floor = logs[i] ? Math.min(...c.points.filter((p) => p[1] !== null).map((p) => p[1])) / 2 : -Infinity;
          const band = c.points.map((p) => (p[1] === null ? [p[0] + zero, null, null] : [p[0] + zero, Math.max(p[2], floor), p[3]]));
          return [{ data: band, renderItem: ribbon(band, this._colour(c.colour)) }, { data: c.points.map((p) => [p[0] + zero, p[1]]), markLine: this._marked(i === 0) }];
        }),
      },
      { lazyUpdate: false },
    );
  }

  _colour(name) {
    return getComputedStyle(this.element).getPropertyValue(name).trim();
  }

  // ms between two marks of the axis: echarts' own axis of time has a good number of them for some windows only.
  _step() {
    const [start, end] = this.window;
    const least = (end - start) / Math.max(3, Math.min(10, this.element.clientWidth / 120));
    return STEPS.find((step) => step >= least) ?? 86400000 * Math.ceil(least / 86400000);
  }

  _mark(ms) {
    if (this.relative) return elapsed(ms);
    const date = new Date(ms - this.zero);
    const [h, m, s] = [date.getHours(), date.getMinutes(), date.getSeconds()].map((n) => String(n).padStart(2, "0"));
    if (this._step() < 60000) return `${h}:${m}:${s}`;
    return h + m === "0000" ? date.toLocaleDateString("en-GB", { weekday: "short", day: "numeric" }) : `${h}:${m}`;
  }

  // What happened, as lines across all strips; its kind in words on the first one.
  _marked(named) {
    const [start, end] = this.window;
    const seen = this.marks.filter((m) => m.at >= start && m.at <= end);
    const room = (70 * (end - start)) / Math.max(this.element.clientWidth - LEFT - RIGHT, 1); // ms a name takes
    const names = []; // where one stands: the graver comes first, and none is written over another
    const rank = ({ kind }) => (kind === "trip" ? 0 : kind === "error" ? 1 : 2);
    const fits = (at) => named && names.every((other) => Math.abs(other - at) > room) && names.push(at) > 0;
    const data = seen.sort((a, b) => rank(a) - rank(b)).map(({ at, kind }) => {
      const grave = kind === "trip" || kind === "error";
      const colour = this._colour(grave ? "--bad" : kind === "acknowledge" ? "--good" : "--faint");
      return {
        xAxis: at + this.zero,
        lineStyle: { color: colour, width: grave ? 2 : 1.2, type: grave ? "solid" : "dashed" },
        label: { show: fits(at), color: colour, formatter: grave ? `◆ ${kind}` : kind },
      };
    });
    return { silent: true, symbol: "none", animation: false, label: { position: "end", distance: 2, fontSize: 11 }, data };
  }

  _option(logs) {
    const { curves } = this;
    const [ink, faint, line, card] = ["--ink", "--faint", "--line", "--card"].map((name) => this._colour(name));
    const font = getComputedStyle(this.element).fontFamily;
    const room = this.element.clientHeight - TOP - BOTTOM - BETWEEN * (curves.length - 1);
    const height = Math.max(20, room / Math.max(curves.length, 1));
    const top = (i) => TOP + i * (height + BETWEEN);
    return {
      animation: false,
      textStyle: { fontFamily: font, color: ink },
      title: curves.map((c, i) => ({
        text: `{dot|━}  {name|${c.label}}  {unit|${c.unit}}`,
        left: 0,
        top: top(i) - 22,
        padding: 0,
        textStyle: {
          rich: {
            dot: { color: this._colour(c.colour), fontSize: 14, fontWeight: 900 },
            name: { color: ink, fontSize: 13, fontWeight: 600, fontFamily: font },
            unit: { color: faint, fontSize: 12, fontFamily: font },
          },
        },
      })),
      grid: curves.map((_, i) => ({ left: LEFT, right: RIGHT, top: top(i), height, outerBoundsMode: "none" })),
      axisPointer: { link: [{ xAxisIndex: "all" }], lineStyle: { color: faint }, label: { show: false } },
      tooltip: {
        trigger: "axis",
        confine: true,
        backgroundColor: card,
        borderColor: line,
        textStyle: { color: ink, fontFamily: font, fontSize: 12 },
        formatter: (items) => this._tip(items),
      },
      xAxis: curves.map((_, i) => ({
        type: "value",
        gridIndex: i,
        axisLine: { lineStyle: { color: line } },
        axisTick: { show: false },
        splitLine: { show: true, lineStyle: { color: line, opacity: 0.6 } },
        scale: true,
        axisLabel: {
          show: i === curves.length - 1,
          color: faint,
          hideOverlap: true,
          showMinLabel: false,
          showMaxLabel: false,
          formatter: (ms) => this._mark(ms),
        },
      })),
      yAxis: curves.map((_, i) => ({
        type: logs[i] ? "log" : "value",
        gridIndex: i,
        scale: true,
        min: logs[i] ? undefined : (v) => spread(v)[0],
        max: logs[i] ? undefined : (v) => spread(v)[1],
        splitNumber: Math.max(3, Math.round(height / 30)),
        axisLine: { show: false },
        axisTick: { show: false },
        splitLine: { lineStyle: { color: line, opacity: 0.6 } },
        axisLabel: { color: faint, fontSize: 11, formatter: number, showMinLabel: logs[i], showMaxLabel: logs[i], hideOverlap: true },
      })),
      series: curves.flatMap((c, i) => [
        {
          type: "custom", xAxisIndex: i, yAxisIndex: i, data: [], encode: { x: 0, y: [1, 2] },
          renderItem: () => null, clip: true, silent: true, z: 1, tooltip: { show: false },
        },
        {
          type: "line", name: c.path, xAxisIndex: i, yAxisIndex: i, data: [], symbol: "none", clip: true, z: 2,
          step: c.steps ? "end" : false, connectNulls: false,
          lineStyle: { width: 1.8, color: this._colour(c.colour) }, itemStyle: { color: this._colour(c.colour) },
        },
      ]),
    };
  }

  _tip(items) {
    const found = items.filter((item) => item.seriesType === "line" && item.value?.[1] != null); // none where a curve is shorter now
    if (!found.length) return "";
    const at = found[0].value[0] - this.zero;
    const time = this.relative ? `${elapsed(at)} since the start` : new Date(at).toLocaleString("en-GB");
    const rows = found.map((item) => {
      const curve = this.curves.find((c) => c.path === item.seriesName);
      if (!curve) return "";
      const point = curve.points[item.dataIndex];
      const half = point ? (point[3] - point[2]) / 2 : 0;
      const safe = document.createElement("i");
      safe.textContent = `${curve.label}  ${number(item.value[1])}${half > 0 ? ` ± ${number(+half.toPrecision(2))}` : ""} ${curve.unit}`;
      return `<div>${item.marker}${safe.innerHTML}</div>`;
    });
    return `<div>${time}</div>${rows.join("")}`;
  }

  _listen() {
    const fingers = new Map();
    const width = () => Math.max(50, this.element.clientWidth - LEFT - RIGHT);
    const at = (event) => {
      const share = (event.clientX - this.element.getBoundingClientRect().left - LEFT) / width();
      return this.window[0] + Math.min(Math.max(share, 0), 1) * (this.window[1] - this.window[0]);
    };
    const zoom = (factor, about) => {
      const [start, end] = this.window;
      this.moved(about - (about - start) * factor, about + (end - about) * factor);
    };
    const pan = (share) => {
      const [start, end] = this.window;
      this.moved(start + share * (end - start), end + share * (end - start));
    };
    const listen = (name, work, options) => this.element.addEventListener(name, work, options);
    listen("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return; // the page scrolls
      event.preventDefault();
      zoom(Math.exp(Math.max(-60, Math.min(60, event.deltaY)) / 150), at(event));
    }, { passive: false });
    listen("pointerdown", (event) => {
      if (event.button === 0) fingers.set(event.pointerId, event.clientX);
    });
    const lift = (event) => fingers.delete(event.pointerId);
    for (const name of ["pointerup", "pointercancel", "pointerleave"]) listen(name, lift);
    listen("pointermove", (event) => {
      if (!fingers.has(event.pointerId)) return;
      const before = fingers.get(event.pointerId);
      if (fingers.size === 2) {
        const other = [...fingers].find(([id]) => id !== event.pointerId)[1];
        const [then, now] = [Math.abs(before - other), Math.abs(event.clientX - other)];
        if (then > 10 && now > 10) zoom(then / now, (this.window[0] + this.window[1]) / 2);
      } else if (Math.abs(event.clientX - before) > 1) pan((before - event.clientX) / width());
      fingers.set(event.pointerId, event.clientX);
    });
    listen("dblclick", () => this.live());
    listen("keydown", (event) => {
      const middle = (this.window[0] + this.window[1]) / 2;
      const keys = {
        ArrowLeft: () => pan(-0.2), ArrowRight: () => pan(0.2), "+": () => zoom(0.5, middle), "=": () => zoom(0.5, middle),
        "-": () => zoom(2, middle), Home: () => this.live(), End: () => this.live(),
      };
      if (event.ctrlKey || event.altKey || event.metaKey || !(event.key in keys)) return;
      event.preventDefault();
      keys[event.key]();
    });
  }
}

// Room above and below, and never so little that the last digit's noise fills the strip.
function spread({ min, max }) {
  if (!Number.isFinite(min) || !Number.isFinite(max)) return [0, 1];
  const least = Math.max(Math.abs(min), Math.abs(max)) * 1e-3 || 1;
  const [middle, half] = [(min + max) / 2, Math.max(max - min, least) * 0.56];
  return [middle - half, middle + half];
}

// The band as one polygon for each piece without a gap; drawn with the first point.
function ribbon(band, colour) {
  return (params, api) => {
    if (params.dataIndexInside !== 0) return null;
    const pieces = [[]];
    for (const p of band) p[1] === null ? pieces.push([]) : pieces.at(-1).push(p);
    const children = pieces.filter((piece) => piece.length > 1).map((piece) => ({
      type: "polygon",
      shape: {
        points: [...piece.map((p) => api.coord([p[0], p[2]])), ...piece.reverse().map((p) => api.coord([p[0], p[1]]))],
      },
      style: { fill: colour, fillOpacity: 0.2, stroke: colour, strokeOpacity: 0.35, lineWidth: 1 }, // a spike is a line
      silent: true,
    }));
    return children.length ? { type: "group", children } : null;
  };
}
