// Axes of costs: linear, logarithmic, or above the baseline and then linear near it and logarithmic beyond.
const scales = (() => {
  function domain(values, margin) {
    const low = d3.min(values), high = d3.max(values);
    const room = margin * (high - low || Math.abs(high) || 1);
    return [low - room, high + room];
  }
  // `part` is what of the whole axis is seen, from 0 to 1.
  const within = ([low, high], part) => part.map((share) => low + share * (high - low));
  function linear(ends, range, part) {
    return d3.scaleLinear().domain(within(ends, part)).range(range);
  }
  function logarithmic(costs, range, part) {
    const [low, high] = [d3.min(costs), d3.max(costs)];
    const room = Math.max(high / low, 1.01) ** 0.06;
    const ends = within([Math.log(low / room), Math.log(high * room)], part).map(Math.exp);
    return d3.scaleLog().domain(ends).range(range);
  }
  function above(costs, plain, range, part) {
    const extra = costs.map((value) => value / plain - 1);
    const least = Math.max(1e-3, d3.min(extra.filter((value) => value).map(Math.abs)) || 0.01);
    const inner = d3.scaleSymlog().constant(least).domain([d3.min(extra), d3.max(extra)]).range([0.06, 0.94]);
    const unit = d3.scaleLinear().domain(part).range(range);
    const place = (value) => unit(inner(value / plain - 1));
    const steps = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30].filter((step) => step >= least);
    const all = [...steps.map((step) => -step).reverse(), 0, ...steps].map((step) => plain * (1 + step));
    place.invert = (pixel) => plain * (1 + inner.invert(unit.invert(pixel)));
    place.ticks = () => {
      const seen = all.filter((value) => place(value) >= range[0] && place(value) <= range[1]);
      const ends = range.map((pixel) => place.invert(pixel) / plain - 1);
      return seen.length > 2 || part[1] - part[0] >= 1 ? seen : d3.ticks(...ends, 5).map((extra) => plain * (1 + extra));
    };
    place.range = () => range;
    place.text = (value) => value === plain ? "baseline" : `${value > plain ? "+" : ""}${Number((100 * (value / plain - 1)).toPrecision(3))} %`;
    return place;
  }
  function of(kind, costs, plain, range, part) {
    if (kind === "log") return logarithmic(costs, range, part);
    if (kind === "above") return above(costs, plain, range, part);
    return linear(domain(costs, 0.06), range, part);
  }
  // As many digits as it takes that no two ticks are alike.
  function texts(ticks) {
    for (let digits = 3; digits < 9; digits += 1) {
      const found = ticks.map((tick) => attn.quantity(tick, digits));
      if (new Set(found).size === ticks.length) return found;
    }
    return ticks.map(String);
  }
  return { domain, linear, of, texts };
})();
