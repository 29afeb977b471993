"""The HTML page that people look at: one self-contained file, without network, for one pair or a release of many.

Data flows one way:

1. :mod:`~rlcircuits.report.page.data` collects what is stored of each pair into one plain structure;
2. one module a section turns that structure into what its template shows: positions, words, rows;
3. :mod:`~rlcircuits.report.page.payload` packs what the script draws: points, edges, answers;
4. :mod:`~rlcircuits.report.page.write` renders ``templates/`` with the style and the script of ``static/`` inlined.

A section for which something is missing says in one line how to get it (:class:`~rlcircuits.report.page.data.Missing`).

Figures are HTML and SVG that Python positions, so that they are there without a script and print; the script adds what
a still picture cannot do: heat maps, the circuit, hover, sorting. No charting library is used: those that ship in a
package are a megabyte and more, and know neither this funnel nor a circuit by layers.
"""
