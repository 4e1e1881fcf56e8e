// The page's data as architectures, and how numbers and strips are written. Elements are made one by one, so that no word
// of a study is read as markup.
const attn = (() => {
  const source = document.getElementById("data");
  if (!source) return null;
  const data = JSON.parse(source.textContent);
  const archs = data.archs.number.map((number, i) => {
    const arch = { number, price: {} };
    for (const [name, column] of Object.entries(data.archs)) arch[name] = column[i];
    for (const [name, column] of Object.entries(data.price)) arch.price[name] = column[i];
    arch.cells = arch.strip.map((cell) => data.cells[cell]);
    return arch;
  });
  const baseline = archs.find((arch) => arch.baseline);
  const make = (tag, attributes = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  };
  const fixed = (value, digits, sign = "") => value === null ? "–" : (sign && value > 0 ? sign : "") + value.toFixed(digits);
  const quantity = (value, digits = 4) => {
    if (value === null) return "–";
    for (const [scale, letter] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]])
      if (Math.abs(value) >= scale) return (value / scale).toPrecision(digits) + letter;
    return String(Number(value.toPrecision(digits)));
  };
  const isCut = (mean, low, high) => Math.abs(high - mean - (mean - low)) > 0.0125; // the data are rounded, a mean to 0.005
  const interval = (mean, low, high, sign) => {
    if (low === null || high === null) return fixed(mean, 2, sign);
    if (isCut(mean, low, high)) return `${fixed(mean, 2, sign)} (${fixed(low, 2, sign)} to ${fixed(high, 2, sign)})`;
    return `${fixed(mean, 2, sign)} ± ${((high - low) / 2).toFixed(2)}`;
  };
  const probability = (p) => p === null ? "–" : p < 0.01 ? "< 0.01" : p > 0.99 ? "> 0.99" : p.toFixed(2);
  const name = (arch) => `A${arch.number}`;
  function strip(arch) {
    const box = make("span", { class: "strip" });
    const empty = arch.cells.every((cell) => !cell.text);
    if (arch.title && (empty || !["baseline", ""].includes(arch.title))) {
      box.append(empty && arch.baseline ? "plain (baseline)" : arch.title);
      return box;
    }
    for (const cell of arch.cells) {
      const colour = cell.block ? ` c${data.blocks.includes(cell.block) ? data.blocks.indexOf(cell.block) % 6 : 5}` : "";
      box.append(make("span", { class: `cell${colour}`, title: [cell.stage, ...cell.options].join("; ") }, cell.text || "·"));
    }
    return box;
  }
  const words = (arch) => strip(arch).childElementCount
    ? arch.cells.map((cell) => cell.text || "nothing").join(", ")
    : strip(arch).textContent;
  return { data, archs, baseline, make, fixed, quantity, interval, isCut, probability, name, strip, words };
})();
