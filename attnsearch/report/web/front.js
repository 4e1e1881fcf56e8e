// The front as one can ask it: points and table rows are the same architectures, chosen by the same filters.
(() => {
  if (!attn) return;
  const { data, archs, baseline, make, fixed, quantity, interval, isCut, probability, name, strip, words } = attn;
  const SHAPES = {
    o: "M4.5,0A4.5,4.5,0,1,1,-4.5,0A4.5,4.5,0,1,1,4.5,0Z",
    ".": "M2.5,0A2.5,2.5,0,1,1,-2.5,0A2.5,2.5,0,1,1,2.5,0Z",
    s: "M-4,-4H4V4H-4Z",
    D: "M0,-5L5,0L0,5L-5,0Z",
    "^": "M0,-5L5,4H-5Z",
    v: "M0,5L5,-4H-5Z",
  };
  const PAGE = 50; // rows of the table at once
  const INTERVALS = 150; // points up to which every one has its interval
  const WHOLE = { x: [0, 1], y: [0, 1] }; // what is seen of each axis
  const DEEPEST = 1 / 64;
  const state = {
    cost: data.costs[0].name, scale: data.above && baseline ? "above" : "linear", every: false, whole: false,
    block: new Set(), stage: new Set(), option: new Set(), sort: "price", up: true, page: 0, marked: new Set(), at: -1,
    seen: WHOLE,
  };

  const price = (arch) => arch.price[state.cost];
  const cost = () => data.costs.find((entry) => entry.name === state.cost);

  // What is shown: the same list for points and rows. Values of one option are alternatives; different options, the block
  // and the stage must hold together, in one stage.
  function chosen() {
    const named = d3.groups([...state.option], (option) => option.slice(0, option.lastIndexOf(" "))).map(([, values]) => values);
    const fits = (cell) => (!state.stage.size || state.stage.has(cell.stage))
      && (!state.block.size || state.block.has(cell.block || "-"))
      && named.every((values) => values.some((value) => cell.options.includes(value)));
    const filtered = state.stage.size || state.block.size || state.option.size;
    return archs.filter((arch) => price(arch) !== null && (state.every || arch.listed) && (!filtered || arch.cells.some(fits)));
  }
  const SORTS = {
    number: (arch) => arch.number, n: (arch) => arch.n, error: (arch) => arch.error, over: (arch) => arch.over && arch.over[0],
    price, ratio: (arch) => baseline && price(arch) / price(baseline), p: (arch) => arch.p, status: (arch) => arch.status,
    strip: words,
  };
  function sorted(rows) {
    const key = SORTS[state.sort], way = state.up ? 1 : -1;
    const marked = (arch) => (state.marked.has(arch.number) ? 0 : 1);
    return [...rows].sort((a, b) => {
      const x = key(a), y = key(b);
      if (marked(a) !== marked(b)) return marked(a) - marked(b);
      if (x === null || y === null) return (x === null) - (y === null);
      return way * (typeof x === "string" ? x.localeCompare(y, undefined, { numeric: true }) : x - y);
    });
  }

  // The controls.
  const root = document.getElementById("front");
  const panel = make("div", { class: "controls" });
  const chart = make("div", { class: "chart" });
  const legend = make("ul", { class: "legend" });
  const told = make("p", { class: "told", role: "status", "aria-live": "polite" });
  const tip = make("div", { class: "tip", "aria-hidden": "true" });
  const pager = make("div", { class: "pager" });
  const scroll = make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "The architectures of the plot" });
  root.append(panel, legend, chart, told, scroll, pager);
  root.hidden = false;
  for (const still of document.querySelectorAll(".still")) still.hidden = true;

  function changed() {
    state.page = 0;
    state.at = -1;
    draw();
  }
  function choose(label, key, options, change = (value) => value) {
    panel.append(controls.one(label, key, options, String(state[key]), (value) => {
      state[key] = change(value);
      state.seen = WHOLE;
      changed();
    }));
  }
  const pick = (label, key, options) => panel.append(controls.several(label, key, options, state[key], changed));
  const alike = (values) => values.map((value) => [value, value]);
  const listed = archs.filter((arch) => arch.listed).length;
  const options = [...new Set(data.cells.flatMap((cell) => cell.options))].sort((a, b) => a.localeCompare(b, undefined, { numeric: true }));
  choose("Cost", "cost", data.costs.map((entry) => [entry.name, entry.title]));
  choose("Axis", "scale", [["linear", "linear"], ["log", "logarithmic"], ...(baseline ? [["above", "above the baseline, logarithmic"]] : [])]);
  choose("Show", "every", [["false", `front and candidates (${listed})`], ["true", `all (${archs.length})`]], (value) => value === "true");
  choose("Range", "whole", [["false", "of the front"], ["true", "of all that is shown"]], (value) => value === "true");
  if (data.blocks.length) pick("Block", "block", [...alike(data.blocks), ["-", "nothing"]]);
  if (data.stages.length > 1) pick("Stage", "stage", alike(data.stages));
  if (options.length) pick("Option", "option", alike(options));
  panel.append(controls.buttons("Zoom", [
    ["+", "Zoom in", () => zoom(0.5)], ["−", "Zoom out", () => zoom(2)], ["Whole plot", "Whole plot", () => zoom(Infinity)],
  ]));

  // The plot.
  const svg = d3.select(chart).append("svg").attr("role", "application").attr("tabindex", 0)
    .attr("aria-label", `Plot of ${data.error} against cost. Arrow keys go from point to point, Enter marks one, Escape lets all go; plus and minus zoom, with Shift the arrows move, 0 shows all.`);
  const layers = Object.fromEntries(["grid", "axes", "steps", "brush", "bars", "points", "names"].map((part) => [part, svg.append("g").attr("class", part)]));
  const clip = svg.append("clipPath").attr("id", "plot").append("rect");
  for (const part of ["steps", "bars"]) layers[part].attr("clip-path", "url(#plot)");
  chart.append(tip);
  const brush = d3.brush().on("end", brushed);
  let places = []; // [arch, x, y] of what is drawn
  let lines = {}; // the scales of what is drawn, x and y

  const inside = (value, [low, high]) => Math.min(Math.max(value, low), high);

  // The scales: as wide as what is listed, unless all that is shown is asked for.
  function frame(rows, width, height) {
    const left = 52, right = width - 16, top = 14, bottom = height - 46;
    const competing = rows.filter((arch) => arch.listed && !arch.control);
    const framed = competing.length && !state.whole ? competing : rows;
    const x = scales.of(state.scale, framed.map(price), baseline && price(baseline), [left, right], state.seen.x);
    const means = framed.map((arch) => arch.error);
    const [least, most] = [d3.min(means), d3.max(means)];
    const reach = 1.5 * (most - least || 1);
    const ends = framed.filter((arch) => arch.listed && arch.low !== null).flatMap((arch) => [arch.low, arch.high]);
    const low = Math.max(d3.min([...ends, least]), least - reach), high = Math.min(d3.max([...ends, most]), most + reach);
    const y = scales.linear(scales.domain([low, high], 0.05), [bottom, top], state.seen.y);
    return { x, y, left, right, top, bottom, height };
  }
  function drawAxes({ x, y, left, right, top, bottom, height }) {
    const fits = Math.max(2, Math.floor((right - left) / 90));
    let ticks = x.ticks(fits);
    while (ticks.length > fits) ticks = ticks.filter((_, i) => i % 2 === 0);
    const labels = x.text ? ticks.map(x.text) : scales.texts(ticks);
    const across = y.ticks(6).map((tick) => [left, y(tick), right, y(tick)]);
    layers.grid.selectAll("line").data([...ticks.map((tick) => [x(tick), top, x(tick), bottom]), ...across]).join("line")
      .attr("x1", (d) => d[0]).attr("y1", (d) => d[1]).attr("x2", (d) => d[2]).attr("y2", (d) => d[3]);
    layers.axes.selectAll("*").remove();
    layers.axes.append("g").selectAll("text").data(ticks).join("text")
      .attr("x", (tick) => x(tick)).attr("y", bottom + 18).attr("text-anchor", "middle").text((_, i) => labels[i]);
    layers.axes.append("g").attr("transform", `translate(${left - 2},0)`).call(d3.axisLeft(y).ticks(6).tickSize(0)).select(".domain").remove();
    const title = (text) => layers.axes.append("text").attr("text-anchor", "middle").attr("class", "title").text(text);
    title(state.scale === "above" ? `${cost().short} above the baseline's ${quantity(price(baseline))}` : cost().title)
      .attr("x", (left + right) / 2).attr("y", height - 8);
    title(`validation ${data.error} (%)`).attr("transform", `translate(12,${(top + bottom) / 2})rotate(-90)`);
  }
  function drawMarks(rows, far, { x, y, top, bottom }, pixels) {
    const steps = data.design ? [] : frontOf(rows).map(pixels);
    const path = steps.map(([px, py], i) => (i ? `H${px}V${py}` : `M${px},${py}`)).join("");
    layers.steps.selectAll("path").data(path ? [path] : []).join("path").attr("d", (d) => d);
    const few = rows.length <= INTERVALS;
    const bars = places.filter(([arch]) => arch.low !== null && (few || arch.listed) && !far.has(arch));
    layers.bars.selectAll("path").data(bars, ([arch]) => arch.number).join("path")
      .attr("class", ([arch]) => `k-${colour(arch)}`)
      .attr("d", ([arch, px]) => `M${px},${inside(y(arch.low), [top, bottom])}V${inside(y(arch.high), [top, bottom])}`);
    const filled = (arch) => arch.baseline || mark(arch)[2];
    const onTop = [...places].sort(([a], [b]) => a.listed - b.listed);
    layers.points.selectAll("path").data(onTop, ([arch]) => arch.number).join("path")
      .attr("data-arch", ([arch]) => arch.number)
      .attr("d", ([arch]) => SHAPES[far.has(arch) ? "^" : arch.baseline ? "s" : mark(arch)[0]])
      .attr("class", ([arch]) => `k-${colour(arch)}${filled(arch) ? "" : " outlined"}${few || arch.listed ? "" : " faint"}`)
      .attr("transform", ([arch, px, py]) => `translate(${px.toFixed(1)},${py.toFixed(1)})${far.has(arch) ? turned(arch, x, y, top) : ""}`);
  }
  function plot(rows) {
    const width = Math.max(280, chart.clientWidth), height = Math.round(Math.min(460, Math.max(300, width * 0.5)));
    svg.attr("width", width).attr("height", height).attr("viewBox", `0 0 ${width} ${height}`);
    lines = frame(rows, width, height);
    const { x, y, left, right, top, bottom } = lines;
    const zoomed = state.seen !== WHOLE;
    const exact = (arch) => [x(price(arch)), y(arch.error)];
    const pixels = zoomed ? exact : (arch) => [inside(x(price(arch)), [left, right]), inside(y(arch.error), [top, bottom])];
    const beyond = (value, low, high) => value < low - 1e-6 || value > high + 1e-6;
    const far = new Set(rows.filter((arch) => beyond(x(price(arch)), left, right) || beyond(y(arch.error), top, bottom)));
    // At the edge of the whole plot a triangle points to what lies beyond; of a part of it nothing does.
    places = rows.filter((arch) => !zoomed || !far.has(arch)).map((arch) => [arch, ...pixels(arch)]);
    clip.attr("x", left).attr("y", top).attr("width", right - left).attr("height", bottom - top);
    drawAxes(lines);
    drawMarks(rows, far, lines, pixels);
    layers.brush.call(brush.extent([[left, top], [right, bottom]]));
    layers.brush.selectAll(".overlay").attr("aria-hidden", "true");
    namePoints();
    shade();
    return far.size;
  }
  const mark = (arch) => data.marks[arch.status] || data.marks.unknown;
  const colour = (arch) => (arch.baseline ? "ink" : mark(arch)[1]);
  function turned(arch, x, y, top) { // a triangle at the edge points to where the architecture lies
    const px = x(price(arch));
    return px > x.range()[1] ? "rotate(90)" : px < x.range()[0] ? "rotate(-90)" : y(arch.error) < top ? "" : "rotate(180)";
  }
  function frontOf(rows) {
    const ordered = rows.filter((arch) => !arch.control).sort((a, b) => price(a) - price(b) || a.error - b.error);
    let least = Infinity;
    return ordered.filter((arch) => arch.error < least && ((least = arch.error), true));
  }

  // Names of listed points, each at the nearest place where no point, no interval and no other name stands.
  const SPOTS = [1, 1.7, 2.4].flatMap((r) => [[17, 0], [-17, 0], [11, 10], [-11, 10], [11, -10], [-11, -10], [0, 13], [0, -13]].map(([dx, dy]) => [r * dx, r * dy]));
  function namePoints() {
    const { x, y } = lines;
    const taken = [], found = [];
    const [low, high] = x.range(), [bottom, top] = y.range();
    for (const [arch, px, py] of places.filter(([one]) => one.listed).slice(0, 60)) {
      const wide = 1.5 * (name(arch).length - 2); // names of more letters stand further off
      const spot = SPOTS.map(([dx, dy]) => [px + dx + Math.sign(dx) * wide * 2, py + dy]).find(([sx, sy]) => sx > low + 8 && sx < high + 8 && sy > top + 4 && sy < bottom - 4
        && places.every(([, qx, qy]) => Math.abs(qx - sx) > 15 + wide || Math.abs(qy - sy) > 9)
        && taken.every(([qx, qy]) => Math.abs(qx - sx) > 26 + wide || Math.abs(qy - sy) > 12)
        && places.every(([other, qx]) => other.low === null || Math.abs(qx - sx) > 13 || y(other.high) > sy + 7 || y(other.low) < sy - 7));
      if (spot) {
        taken.push(spot);
        found.push([arch, spot]);
      }
    }
    layers.names.selectAll("text").data(found, ([arch]) => arch.number).join("text")
      .attr("x", ([, [sx]]) => sx).attr("y", ([, [, sy]]) => sy + 4).attr("text-anchor", "middle").text(([arch]) => name(arch));
  }

  // Hover, keyboard and brush.
  function shade() {
    layers.points.selectAll("path").classed("marked", ([arch]) => state.marked.has(arch.number))
      .classed("at", ([arch]) => arch.number === state.at);
    for (const row of scroll.querySelectorAll("tbody tr")) {
      const number = Number(row.dataset.arch);
      row.classList.toggle("marked", state.marked.has(number));
      row.classList.toggle("at", number === state.at);
    }
  }
  function facts(arch) {
    return [
      [`validation ${data.error}`, `${interval(arch.error, arch.low, arch.high)} % on ${arch.n} ${arch.kind} seed${arch.n === 1 ? "" : "s"}${arch.low === null ? "" : isCut(arch.error, arch.low, arch.high) ? ", 95 % CI in brackets" : ", ± half the 95 % CI"}`],
      ...(arch.over ? [["difference from the baseline", `${interval(arch.over[0], arch.over[1], arch.over[2], "+")} pp`]] : []),
      ...data.costs.filter((entry) => arch.price[entry.name] !== null).map((entry) => [entry.title, quantity(arch.price[entry.name])
        + (baseline && !arch.baseline && baseline.price[entry.name] ? ` (${(arch.price[entry.name] / baseline.price[entry.name]).toFixed(3)} x the baseline)` : "")]),
      ...(arch.p === null ? [] : [["P(front)", probability(arch.p)]]),
      [data.design ? "verdict" : "status", arch.status],
    ];
  }
  function show(arch, px, py) {
    state.at = arch ? arch.number : -1;
    shade();
    tip.classList.toggle("open", Boolean(arch));
    if (!arch) return;
    tip.replaceChildren(make("strong", {}, name(arch)), " ", strip(arch), make("dl", {}, ...facts(arch).flatMap(([term, value]) => [make("dt", {}, term), make("dd", {}, value)])));
    const right = px > chart.clientWidth / 2;
    tip.style.left = `${right ? Math.max(0, px - tip.offsetWidth - 14) : Math.min(px + 14, Math.max(0, chart.clientWidth - tip.offsetWidth))}px`;
    tip.style.top = `${Math.max(0, py - tip.offsetHeight / 2)}px`;
  }
  svg.on("pointermove", (event) => {
    const [px, py] = d3.pointer(event, svg.node());
    const near = d3.least(places, ([, qx, qy]) => (qx - px) ** 2 + (qy - py) ** 2);
    if (near && Math.hypot(near[1] - px, near[2] - py) < 22) show(...near);
    else show(null);
  });
  svg.on("pointerleave", () => show(null));
  // Zoom: around a point of the plot, the one that is pointed at or the middle.
  function zoom(factor, px, py) {
    const { left, right, top, bottom } = lines;
    const at = places.find(([arch]) => arch.number === state.at) || [null, (left + right) / 2, (top + bottom) / 2];
    const [ax, ay] = px === undefined ? at.slice(1) : [px, py];
    const part = ([low, high], share) => {
      const wide = inside((high - low) * factor, [DEEPEST, 1]);
      const from = inside(low + share * (high - low - wide), [0, 1 - wide]);
      return [from, from + wide];
    };
    const seen = { x: part(state.seen.x, (ax - left) / (right - left)), y: part(state.seen.y, (bottom - ay) / (bottom - top)) };
    move(seen.x[1] - seen.x[0] >= 1 ? WHOLE : seen);
  }
  function move(seen) {
    const at = state.at;
    state.seen = seen;
    draw();
    const place = places.find(([arch]) => arch.number === at);
    if (place) show(...place);
  }
  function shift(key) {
    const [right, up] = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[key];
    const along = ([low, high], way) => {
      const from = inside(low + 0.2 * way * (high - low), [0, 1 - (high - low)]);
      return [from, from + high - low];
    };
    if (state.seen !== WHOLE) move({ x: along(state.seen.x, right), y: along(state.seen.y, up) });
  }
  svg.on("wheel", (event) => { // else the page scrolls
    if (!event.ctrlKey && !event.metaKey && document.activeElement !== svg.node()) return;
    event.preventDefault();
    zoom(event.deltaY < 0 ? 0.8 : 1.25, ...d3.pointer(event, svg.node()));
  }, { passive: false });
  const KEYS = { "+": 0.5, "=": 0.5, "-": 2, 0: Infinity };
  svg.on("keydown", (event) => {
    const zooms = event.key in KEYS && !event.ctrlKey && !event.metaKey;
    if (zooms || (event.shiftKey && event.key.startsWith("Arrow"))) {
      if (zooms) zoom(KEYS[event.key]);
      else shift(event.key);
      event.preventDefault();
      return;
    }
    const order = [...places].sort((a, b) => a[1] - b[1] || a[2] - b[2]);
    const at = order.findIndex(([arch]) => arch.number === state.at);
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (step && order.length) {
      const next = order[at < 0 ? (step > 0 ? 0 : order.length - 1) : (at + step + order.length) % order.length];
      show(...next);
      told.textContent = `${name(next[0])}: ${words(next[0])}. ${facts(next[0]).map((fact) => fact.join(" ")).join("; ")}.`;
    } else if (event.key === "Enter" && at >= 0) {
      const number = order[at][0].number;
      if (!state.marked.delete(number)) state.marked.add(number);
      table(chosen());
      said();
    } else if (event.key === "Escape") clear();
    else return;
    event.preventDefault();
  });
  function brushed(event) {
    if (!event.sourceEvent) return;
    if (event.selection) {
      const [[x0, y0], [x1, y1]] = event.selection;
      state.marked = new Set(places.filter(([, px, py]) => px >= x0 && px <= x1 && py >= y0 && py <= y1).map(([arch]) => arch.number));
      layers.brush.call(brush.move, null);
    } else state.marked = new Set();
    state.page = 0;
    table(chosen());
    said();
  }
  function clear() {
    state.marked = new Set();
    show(null);
    table(chosen());
    said();
  }

  // The table of what is shown.
  const HEADS = [
    ["number", "no."], ["strip", "architecture", "text"], ["n", "seeds"], ["error", `${data.error} (%)`],
    ...(archs.some((arch) => arch.over) ? [["over", "Δ vs baseline (pp)"]] : []), ["price", ""],
    ...(baseline ? [["ratio", "ratio to baseline"]] : []), ...(data.design ? [] : [["p", "P(front)"]]),
    ["status", data.design ? "verdict" : "status", "text"],
  ];
  const head = make("tr");
  for (const [key, title, kind] of HEADS) {
    const button = make("button", { type: "button" }, title);
    button.addEventListener("click", () => {
      state.up = state.sort === key ? !state.up : true;
      state.sort = key;
      state.page = 0;
      table(chosen());
    });
    head.append(make("th", { scope: "col", class: kind ? "" : "num", "data-key": key }, button));
  }
  const body = make("tbody");
  scroll.append(make("table", {}, make("thead", {}, head), body));
  const VALUES = {
    number: name, n: (arch) => String(arch.n), error: (arch) => interval(arch.error, arch.low, arch.high),
    over: (arch) => (arch.over ? interval(arch.over[0], arch.over[1], arch.over[2], "+") : "–"), price: (arch) => quantity(price(arch)),
    ratio: (arch) => fixed(price(baseline) ? price(arch) / price(baseline) : null, 3), p: (arch) => probability(arch.p),
    status: (arch) => arch.status, strip,
  };
  function table(rows) {
    const ordered = sorted(rows);
    const from = state.page * PAGE, to = Math.min(from + PAGE, ordered.length);
    for (const cell of head.children) {
      const sorts = cell.dataset.key === state.sort;
      cell.setAttribute("aria-sort", sorts ? (state.up ? "ascending" : "descending") : "none");
      if (cell.dataset.key === "price") cell.firstChild.textContent = cost().short;
    }
    body.replaceChildren(...ordered.slice(from, to).map((arch) => {
      const row = make("tr", { "data-arch": arch.number });
      for (const [key, , kind] of HEADS)
        row.append(make(key === "number" ? "th" : "td", key === "number" ? { scope: "row" } : { class: kind || "num" }, VALUES[key](arch)));
      row.addEventListener("pointerenter", () => { state.at = arch.number; shade(); });
      row.addEventListener("pointerleave", () => { state.at = -1; shade(); });
      return row;
    }));
    pager.hidden = ordered.length <= PAGE;
    const turn = (text, page, can) => {
      const button = make("button", { type: "button" }, text);
      button.disabled = !can;
      button.addEventListener("click", () => { state.page = page; table(chosen()); });
      return button;
    };
    pager.replaceChildren(turn("Previous", state.page - 1, state.page > 0), ` ${from + 1} to ${to} of ${ordered.length.toLocaleString("en")} `, turn("Next", state.page + 1, to < ordered.length));
    shade();
  }
  let outside = 0;
  function said() {
    const rows = chosen().length, marked = state.marked.size;
    told.textContent = rows
      ? `${rows.toLocaleString("en")} of ${archs.length.toLocaleString("en")} architectures, each a point and a row.`
        + (outside && state.seen === WHOLE ? ` ${outside.toLocaleString("en")} lie outside the range: triangles at the edge point to them.` : "")
        + (state.seen === WHOLE ? "" : ` Zoomed in: ${outside.toLocaleString("en")} lie outside this part; 0 or Whole plot shows all.`)
        + (marked ? ` ${marked.toLocaleString("en")} marked, first in the table; Escape or a click beside them lets them go.` : " Drag over points to mark their rows; Ctrl and the wheel zoom.")
      : "No architecture is like that: choose less.";
  }
  function draw() {
    const rows = chosen();
    show(null);
    if (rows.length) outside = plot(rows);
    else for (const part of ["points", "names", "bars", "steps"]) layers[part].selectAll("*").remove();
    if (!rows.length) places = [];
    const counts = d3.rollup(rows, (group) => group.length, (arch) => (arch.baseline ? "baseline" : arch.status));
    legend.replaceChildren(...[...counts].map(([status, count]) => {
      const entry = make("li");
      const [shape, tone, filled] = status === "baseline" ? ["s", "ink", true] : data.marks[status] || data.marks.unknown;
      d3.select(entry).append("svg").attr("width", 12).attr("height", 12).attr("viewBox", "-6 -6 12 12").attr("aria-hidden", "true")
        .append("path").attr("d", SHAPES[shape]).attr("class", `k-${tone}${filled ? "" : " outlined"}`);
      entry.append(`${status} (${count.toLocaleString("en")})`);
      return entry;
    }));
    table(rows);
    said();
  }
  draw();
  let drawn = chart.clientWidth;
  new ResizeObserver(() => {
    if (chart.clientWidth !== drawn) draw();
    drawn = chart.clientWidth;
  }).observe(chart);
  document.documentElement.dataset.ready = "yes";
})();
