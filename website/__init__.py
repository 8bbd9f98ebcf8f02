"""The documentation site: ``make docs``, or ``python -m website``, makes it of the Markdown in this repository.

The pages are written to be read in the repository as well. So nothing in them is of the site's own: ``links`` leads
from file to file, and here from page to page; mermaid is drawn here, not in the reader's browser; and what the code
knows better than anybody (commands, habits) stands behind ``<!-- generated: NAME -->``, as a test finds it. Sphinx
then turns the copies below ``build/`` into HTML, with every warning an error. The result is searched once more, for
anything that a browser would ask another server for: there must be none.
"""
