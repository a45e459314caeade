"""A page of a list. Iterating goes on to the pages after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, AsyncIterator, Callable, Generic, Iterator, TypeVar

from helixflow._objects import Object, Response

if TYPE_CHECKING:
    from helixflow._calls import Call

T = TypeVar("T", bound=Object)


class Page(Response, Generic[T]):
    """``data`` is of this page alone; ``for item in page`` goes through all that follow too, asking for them.

    Of an AsyncClient: ``async for item in page``, and ``await page.next_page()``.
    """

    __slots__ = ("_ask", "_next")
    data: list[T]
    has_more: bool | None
    first_id: str | None
    last_id: str | None
    next_cursor: str | None
    # The call for the page after this one, and how the client makes it.
    _next: Call | None
    _ask: Callable[[Call | None], Any]

    def next_page(self) -> Any:
        """The page after this one, or None if this is the last."""
        return self._ask(self._next)

    def __iter__(self) -> Iterator[T]:
        page: Page[T] | None = self
        while page is not None:
            yield from page["data"]
            page = page.next_page()

    async def __aiter__(self) -> AsyncIterator[T]:
        page: Page[T] | None = self
        while page is not None:
            for item in page["data"]:
                yield item
            page = await page.next_page()
