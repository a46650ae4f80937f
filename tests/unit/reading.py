"""Reads a report as a browser would, and checks what holds of every one."""

from collections.abc import Mapping
from html.parser import HTMLParser

from typing_extensions import override


class Read(HTMLParser):
    """What a page is made of: its tags with what they say of themselves."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, Mapping[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    @override
    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def count(self, name: str) -> int:
        return sum(tag == name for tag, _ in self.tags)

    def check(self) -> None:
        """Assert that a page is offline, runs nothing, and tells its tables and pictures in words."""
        assert not self.count("script") + self.count("link") + self.count("img") + self.count("iframe")
        assert [name for _, told in self.tags for name in told if name in ("src", "href", "style")] == []
        policy = next(told["content"] for tag, told in self.tags if told.get("http-equiv") == "Content-Security-Policy")
        assert (policy or "").startswith("default-src 'none'")
        assert self.count("table") == self.count("caption")
        assert self.count("svg") == self.count("desc") == self.count("figcaption")
        assert all(told["role"] == "img" and told["aria-label"] for tag, told in self.tags if tag == "svg")
        assert {told.get("scope") for tag, told in self.tags if tag == "th"} == {"col", "row"}
        assert (self.count("h1"), self.count("main")) == (1, 1)
        assert next(told for tag, told in self.tags if tag == "html") == {"lang": "en"}
