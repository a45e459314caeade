"""Tags of the documentation: headings that can be linked to."""

from django import template
from django.template import Context
from django.utils.html import format_html, strip_tags
from django.utils.safestring import SafeString

register = template.Library()


@register.simple_block_tag(takes_context=True)
def heading(context: Context, content: str, id: str) -> SafeString:  # noqa: A002  # HTML's name
    """A second-level heading with a link to itself; ``helixflow.site.docs.headings`` finds it in the page."""
    request = context.get("request")
    address = f"{context.get('public_url', '')}{request.path if request else ''}#{id}"
    return format_html(
        '<h2 id="{id}" class="anchored">{content}'
        '<a class="anchor" href="#{id}" data-copy="{address}" aria-label="Link to “{title}”">#</a></h2>',
        id=id,
        content=content,
        address=address,
        title=strip_tags(content),
    )
