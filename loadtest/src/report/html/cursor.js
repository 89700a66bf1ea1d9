// Shows the values under the pointer in the legend of each plot.
for (const figure of document.querySelectorAll("figure[data-plot]")) {
  const lines = JSON.parse(figure.dataset.plot), svg = figure.querySelector("svg");
  const cursor = svg.querySelector(".cursor"), values = figure.querySelectorAll(".legend b");
  const at = figure.querySelector("figcaption small"), plain = at.textContent;
  const clear = () => { cursor.style.display = "none"; values.forEach(value => value.textContent = ""); at.textContent = plain; };
  svg.addEventListener("pointerleave", clear);
  svg.addEventListener("pointermove", event => {
    const box = svg.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width;
    let nearest = null;
    for (const line of lines) for (const point of line)
      if (nearest === null || Math.abs(point[0] - x) < Math.abs(nearest[0] - x)) nearest = point;
    if (nearest === null) return;
    cursor.setAttribute("x1", nearest[0]); cursor.setAttribute("x2", nearest[0]); cursor.style.display = "";
    at.textContent = nearest[1];
    lines.forEach((line, index) => {
      const point = line.find(point => Math.abs(point[0] - nearest[0]) < 0.06);
      values[index].textContent = point ? " " + point[2] : "";
    });
  });
}
