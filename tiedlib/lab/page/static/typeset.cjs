/* Reads {mathjax, fonts, macros, formulas: [[TeX, display], …]} as JSON, writes {html: […], css}. Run by node while a book is built. */
const fs = require("fs");
const task = JSON.parse(fs.readFileSync(0, "utf8"));
require(task.mathjax + "/node-main.js")
  .init({
    loader: {
      paths: { mathjax: task.mathjax },
      load: ["input/tex-full", "output/chtml", "adaptors/liteDOM", "a11y/assistive-mml"],
    },
    tex: { macros: task.macros },
    chtml: { fontURL: task.fonts, adaptiveCSS: true },
  })
  .then((MathJax) => {
    const { adaptor } = MathJax.startup;
    const html = task.formulas.map(([tex, display]) =>
      adaptor.outerHTML(MathJax.tex2chtml(tex, { display, em: 16, ex: 8, containerWidth: 80 * 16 })));
    const css = adaptor.textContent(MathJax.chtmlStylesheet());
    process.stdout.write(JSON.stringify({ html, css }));
  })
  .catch((error) => { process.stderr.write(String(error)); process.exit(1); });
