// Controls of the plot: a choice of one, a choice of several that stays open while one ticks, and buttons.
const controls = (() => {
  if (!attn) return null;
  const { make } = attn;
  function one(label, key, options, value, change) {
    const select = make("select", { id: `choose-${key}` });
    for (const [option, text] of options) select.append(make("option", { value: option }, text));
    select.value = value;
    select.addEventListener("change", () => change(select.value));
    return make("label", {}, `${label} `, select);
  }
  function several(label, key, options, chosen, change) {
    const summary = make("summary");
    const boxes = make("div", { class: "boxes", role: "group", "aria-label": label });
    const box = make("details", { class: "pick", id: `pick-${key}` }, summary, boxes);
    const say = () => {
      const texts = options.filter(([option]) => chosen.has(option)).map(([, text]) => text);
      summary.textContent = `${label}: ${texts.length > 2 ? `${texts.length} chosen` : texts.join(", ") || "any"}`;
    };
    for (const [option, text] of options) {
      const tick = make("input", { type: "checkbox", value: option });
      tick.addEventListener("change", () => {
        if (tick.checked) chosen.add(option);
        else chosen.delete(option);
        say();
        change();
      });
      boxes.append(make("label", {}, tick, ` ${text}`));
    }
    const close = () => { box.open = false; };
    box.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      close();
      summary.focus();
    });
    document.addEventListener("pointerdown", (event) => { if (!box.contains(event.target)) close(); });
    say();
    return box;
  }
  function buttons(label, entries) {
    const row = make("span", { class: "buttons", role: "group", "aria-label": label });
    for (const [text, title, act] of entries) {
      const button = make("button", { type: "button", "aria-label": title, title }, text);
      button.addEventListener("click", act);
      row.append(button);
    }
    return row;
  }
  return { one, several, buttons };
})();
