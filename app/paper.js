// Figures have the width of the window, which is seldom that of a sheet of paper. While the page is printed they say how large they
// are, and style.css scales them.
const eachFigure = (change) => document.querySelectorAll('.js-plotly-plot .svg-container').forEach(change);

function measure(figure) {
  const { offsetWidth: width, offsetHeight: height } = figure;
  if (!width || !height) return; // of a tab that is not open
  figure.dataset.paper = '';
  figure.style.setProperty('--width', `${width}px`);
  figure.style.setProperty('--ratio', `${width} / ${height}`);
  for (const layer of figure.querySelectorAll('.main-svg')) layer.setAttribute('viewBox', `0 0 ${width} ${height}`);
}

// Plotly gives its layers another size when the window gets one: a view box that stayed would distort them.
function release(figure) {
  delete figure.dataset.paper;
  for (const layer of figure.querySelectorAll('.main-svg')) layer.removeAttribute('viewBox');
}

export default function () {
  window.onbeforeprint = () => eachFigure(measure);
  window.onafterprint = () => eachFigure(release);
}
