"""The style sheet of the report: light, printable, one column on a phone. Wide parts scroll in a box of their own."""

STYLE = """
:root { color-scheme: light; --ink: #1c2430; --soft: #5d6b7c; --line: #d9dfe6; --pale: #f4f6f9; --blue: #2f6db5;
  --good: #17733a; --bad: #b3261e }
* { box-sizing: border-box }
html { -webkit-text-size-adjust: 100% }
body { margin: 0; background: #fff; color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif }
main { max-width: 1120px; margin: 0 auto; padding: 1rem }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .5rem 0 .25rem; overflow-wrap: anywhere }
h2 { font-size: 1.25rem; margin: 2.25rem 0 .5rem; padding-bottom: .25rem; border-bottom: 2px solid var(--line) }
h3 { font-size: 1rem; margin: 1.25rem 0 .4rem }
p, ul { margin: .4rem 0; max-width: 75ch; overflow-wrap: anywhere }
ul { padding-left: 1.2rem }
code, pre { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .85em; overflow-wrap: anywhere }
img { max-width: 100%; height: auto; display: block }
.lead, small, .below { color: var(--soft) }
.note { background: #fff6e0; border-left: 4px solid #e0a100; padding: .5rem .75rem }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1rem; font-size: .9rem; margin: .5rem 0 1rem }
a { color: var(--blue) }
.badge { font-size: .75rem; padding: .05rem .4rem; border-radius: 9px; background: #eef1f5; color: var(--soft);
  white-space: nowrap }
.badge.differs { background: #fdf0dc; color: #8a5300 }
.scroll { overflow-x: auto; margin: .6rem 0; max-width: 100%; background:
  linear-gradient(to right, #fff 40%, transparent) 0 / 3rem 100% local no-repeat,
  linear-gradient(to left, #fff 40%, transparent) 100% / 3rem 100% local no-repeat,
  linear-gradient(to right, #b9c3cf, transparent) 0 / .6rem 100% scroll no-repeat,
  linear-gradient(to left, #b9c3cf, transparent) 100% / .6rem 100% scroll no-repeat }
pre.scroll { background: var(--pale); padding: .75rem }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .6rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line) }
th { color: var(--soft); font-weight: 600; vertical-align: bottom }
th.number, td.number { text-align: right; white-space: nowrap }
th.number { white-space: normal; min-width: 3.6rem; max-width: 8rem }
td:first-child { min-width: 6.5rem }
tr.marked td { background: #eaf1fa; font-weight: 600 }
details { margin: .5rem 0 }
summary { cursor: pointer; color: var(--blue) }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem; margin: 1rem 0 }
.card { background: var(--pale); border-radius: 8px; padding: .6rem .8rem }
.card .title { font-size: .85rem }
.card .value { font-size: 1.7rem; font-weight: 650; line-height: 1.2; font-variant-numeric: tabular-nums }
.card .below { font-size: .8rem; line-height: 1.3 }
.curves { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)); gap: .75rem }
.bars { max-width: 46rem; font-size: .875rem }
.bar { display: grid; grid-template-columns: minmax(0, 11rem) minmax(3rem, 1fr) 2.8rem 3.1rem; gap: .6rem;
  align-items: center; padding: .12rem 0; break-inside: avoid }
.bar .name { line-height: 1.25; overflow-wrap: anywhere }
.bar .ap, .bar .gain { text-align: right; font-variant-numeric: tabular-nums }
.track { position: relative; height: .85rem; background: #e6ebf1; border-radius: 2px }
.track b { position: absolute; inset: 0 auto 0 0; background: var(--blue); border-radius: 2px }
.track i { position: absolute; top: -2px; bottom: -2px; width: 2px; margin-left: -1px; background: #000;
  box-shadow: 0 0 0 1px #fff }
.up { color: var(--good) }
.down { color: var(--bad) }
.matrix { display: block; font-family: "DejaVu Sans", sans-serif; fill: var(--ink) }
.maps { display: grid; grid-template-columns: repeat(7, minmax(0, 1fr)); gap: .6rem; padding: .75rem 0;
  border-bottom: 1px solid var(--line); break-inside: avoid }
.maps figure { margin: 0 }
figcaption { font-size: .8rem; line-height: 1.3; margin-top: .2rem; overflow-wrap: anywhere }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); gap: 1rem }
.changed { display: grid; grid-template-columns: 8rem minmax(0, 1fr); gap: .75rem; font-size: .85rem;
  line-height: 1.35; break-inside: avoid }
.changed li { display: flex; gap: .3rem }
.changed .label { flex: 1; overflow-wrap: anywhere }
.changed li span:not(.label) { white-space: nowrap }
.changed > div:only-child { grid-column: 1 / -1 }
.changed ul { list-style: none; padding: 0; margin: .25rem 0; font-variant-numeric: tabular-nums }
.changed p { margin: 0 }
@media (min-width: 900px) { .bars.many { columns: 2; column-gap: 2.5rem; max-width: none } }
@media (max-width: 480px) {
  table { font-size: .82rem }
  th, td { padding: .3rem .32rem }
  th.number { min-width: 2.9rem }
  td:first-child { min-width: 5.2rem }
  .bar { grid-template-columns: minmax(0, 7.5rem) minmax(2rem, 1fr) 2.5rem 2.9rem; gap: .4rem }
  .maps { grid-template-columns: repeat(3, minmax(0, 1fr)) }
}
@media print {
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact }
  main { max-width: none; padding: 0 }
  .scroll { overflow: visible; background: none }
  table { font-size: .7rem }
  .matrix { max-width: 100%; height: auto }
  h2, h3 { break-after: avoid }
}
"""
