"""Admin pages for tables that are only looked at, and that grow without end."""

from typing import Any, Final

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db.models import Q
from django.http import HttpRequest

from helixflow.lib import ids

OLDER_THAN: Final = "older_than"  # in the query string: the primary key of the last row shown


class KeysetChangeList(ChangeList):
    """Newest first and paged by primary key: neither counts a table of millions nor skips over what it shows not."""

    next_url = ""

    def get_filters_params(self, params: Any = None) -> Any:
        found = super().get_filters_params(params)
        found.pop(OLDER_THAN, None)
        return found

    def get_results(self, request: HttpRequest) -> None:
        rows = self.queryset.order_by("-pk")
        last = request.GET.get(OLDER_THAN)
        try:
            found = list((rows.filter(pk__lt=last) if last else rows)[: self.list_per_page + 1])
        except (ValidationError, ValueError):
            raise IncorrectLookupParameters from None
        shown = found[: self.list_per_page]
        if len(found) > len(shown):
            self.next_url = self.get_query_string({OLDER_THAN: shown[-1].pk})
        self.result_list = shown
        self.result_count = len(shown)
        self.full_result_count = self.result_count
        self.show_full_result_count = self.can_show_all = self.multi_page = False
        self.show_admin_actions = bool(self.model_admin.actions)
        self.paginator = Paginator(shown, self.list_per_page)


def parsed(term: str, *columns: tuple[str, str]) -> Q | None:
    """What the id ``term`` stands for, by the prefixes of ``columns``; None if it is none of them."""
    for prefix, column in columns:
        try:
            return Q(**{column: ids.parse_public_id(prefix, term.strip())})
        except ValueError:
            continue
    return None


class ReadOnlyAdmin(admin.ModelAdmin):  # the stubs' generic is not subscriptable at run time
    """To look at, for superusers too."""

    change_list_template = "admin/keyset_change_list.html"
    list_per_page = 50
    sortable_by = ()
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    actions: Any = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return KeysetChangeList
