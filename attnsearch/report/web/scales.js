// Axes of costs: linear, logarithmic, or above the baseline and then linear near it and logarithmic beyond.
const scales = (() => {
  function domain(values, margin) {
    const low = d3.min(values), high = d3.max(values);
    const room = margin * (high - low || Math.abs(high) || 1);
    return [low - room, high + room];
  }
  function logarithmic(costs, range) {
    const [low, high] = [d3.min(costs), d3.max(costs)];
    const room = Math.max(high / low, 1.01) ** 0.06;
    return d3.scaleLog().domain([low / room, high * room]).range(range);
  }
  function above(costs, plain, range) {
    const extra = costs.map((value) => value / plain - 1);
    const least = Math.max(1e-3, d3.min(extra.filter((value) => value).map(Math.abs)) || 0.01);
    const inner = d3.scaleSymlog().constant(least).domain([d3.min(extra), d3.max(extra)]).range([0.06, 0.94]);
    const unit = d3.scaleLinear().domain([0, 1]).range(range);
    const place = (value) => unit(inner(value / plain - 1));
    const steps = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30].filter((step) => step >= least);
    const all = [...steps.map((step) => -step).reverse(), 0, ...steps].map((step) => plain * (1 + step));
    place.ticks = () => all.filter((value) => place(value) >= range[0] && place(value) <= range[1]);
    place.range = () => range;
    place.text = (value) => value === plain ? "baseline" : `${value > plain ? "+" : ""}${Number((100 * (value / plain - 1)).toPrecision(3))} %`;
    return place;
  }
  function of(kind, costs, plain, range) {
    if (kind === "log") return logarithmic(costs, range);
    if (kind === "above") return above(costs, plain, range);
    return d3.scaleLinear().domain(domain(costs, 0.06)).range(range);
  }
  // As many digits as it takes that no two ticks are alike.
  function texts(ticks) {
    for (let digits = 3; digits < 9; digits += 1) {
      const found = ticks.map((tick) => attn.quantity(tick, digits));
      if (new Set(found).size === ticks.length) return found;
    }
    return ticks.map(String);
  }
  return { domain, of, texts };
})();
