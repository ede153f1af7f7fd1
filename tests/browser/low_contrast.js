// The texts of a page whose contrast with their ground is below 4.5, the limit of WCAG 2 for text of usual size.
() => {
  const channel = (value) => {
    const share = value / 255;
    return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  };
  const luminance = (colour) => {
    const [red, green, blue] = colour.match(/[\d.]+/g).map((text) => channel(Number(text)));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const ground = (one) => {
    for (let each = one; each; each = each.parentElement) {
      const colour = getComputedStyle(each).backgroundColor;
      if (colour !== "rgba(0, 0, 0, 0)") return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const low = [];
  for (const one of document.querySelectorAll("h1, h2, h3, p, span, button, dt, dd, time, label, text, tspan")) {
    // The text on the symbol of a node is large and bold, and its ground is the symbol.
    if (!one.textContent.trim() || !one.getClientRects().length || one.classList.contains("kind")) continue;
    const style = getComputedStyle(one);
    const colour = one.namespaceURI.endsWith("svg") ? style.fill : style.color;
    const [a, b] = [luminance(colour), luminance(ground(one))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) low.push(`${one.tagName} "${one.textContent.slice(0, 20)}" ${contrast.toFixed(1)}`);
  }
  return low;
}
