"""One HTML file to leaf through what assigners did with images: no network, no scripts of others."""

from densehead.analysis.page.writing import write_page

__all__ = ["write_page"]
