// What a reader's eye would find in an open page; evaluated there by the tests.
() => {
  const luminance = colour => {
    const parts = colour.match(/[\d.]+/g).map(Number);
    if (parts.length > 3 && parts[3] < 1) throw new Error(`not opaque: ${colour}`);
    const [r, g, b] = parts.map(part => (part /= 255) <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (one, other) => {
    const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const paper = getComputedStyle(document.body).backgroundColor;
  const behind = element => {
    for (let one = element; one; one = one.parentElement) {
      const colour = getComputedStyle(one).backgroundColor;
      if (!/, 0\)$/.test(colour)) return colour;
    }
    return paper;
  };
  const letters = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), texts = [];
  while (letters.nextNode()) {
    const text = letters.currentNode, style = getComputedStyle(text.parentElement);
    if (!text.data.trim()) continue;
    const ink = text.parentElement.closest("svg") ? style.fill : style.color;
    if (style.visibility !== "visible" || Number(style.opacity) !== 1) throw new Error(`not to be seen: ${text.data}`);
    texts.push({text: text.data.slice(0, 40), contrast: contrast(ink, behind(text.parentElement)), height: parseFloat(style.fontSize)});
  }
  const shapes = [...document.querySelectorAll("svg :is(rect, path, polyline, circle)")].map(shape => {
    const style = getComputedStyle(shape), box = shape.getBoundingClientRect();
    const ink = style.fill === "none" ? style.stroke : style.fill;
    return {kind: shape.getAttribute("class") ?? shape.tagName, contrast: contrast(ink, paper), width: box.width, height: box.height};
  });
  const pictures = [...document.querySelectorAll("svg")].map(svg => {
    const box = svg.getBoundingClientRect(), room = svg.closest("td, figure").getBoundingClientRect();
    const text = [...svg.querySelectorAll("text")].map(one => one.getBoundingClientRect());
    return {
      name: svg.getAttribute("role") === "img" ? svg.getAttribute("aria-label") : null, width: box.width, height: box.height,
      outside: [box, ...text].some(one => one.left < room.left - 1 || one.right > room.right + 1),
      smallest: Math.min(99, ...text.map(one => one.height)),
    };
  });
  const bare = [...document.querySelectorAll("table")].flatMap(table => {
    const columns = table.tHead ? table.tHead.rows[0].querySelectorAll("th[scope=col]").length : 0;
    return [...table.tBodies].flatMap(body => [...body.rows]).filter(
      row => row.cells.length !== columns && !(row.cells.length === 2 && row.cells[0].scope === "row")
    ).map(row => row.innerText);
  });
  const root = document.documentElement, head = document.querySelector("h1").getBoundingClientRect();
  return {
    overflow: root.scrollWidth - root.clientWidth, paper, shapes, texts, pictures, bare, tables: document.querySelectorAll("table").length,
    spilt: [...document.querySelectorAll("main *")].filter(one => !one.closest(".scroll")
      && one.getBoundingClientRect().right > root.clientWidth + 1).map(one => one.outerHTML.slice(0, 80)),
    h1: {text: document.querySelector("h1").innerText, top: head.top, bottom: head.bottom},
    headings: [...document.querySelectorAll("h1, h2, h3, h4, h5, h6")].map(one => Number(one.tagName[1])),
    tags: [...new Set([...document.querySelectorAll("body, body *")].map(one => one.tagName.toLowerCase()))].sort(),
  };
}
