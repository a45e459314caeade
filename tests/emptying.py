"""Emptied tables after a test that commits: Django's own way takes longer than most such tests.

TRUNCATE gives each of some sixty tables and their indexes new files, and after it content types and permissions are
made anew, one query after the other. Here rows are deleted where there are any, and those two tables stay as they are.
"""

from django.core.management import call_command
from django.db import connection

KEPT = {"django_content_type", "auth_permission"}  # as migrations made them
# As a replica neither triggers nor foreign keys have a say, as with TRUNCATE; the lock waits for who still writes.
EMPTY = """
DO $$
DECLARE name text;
BEGIN
    LOCK TABLE {tables} IN EXCLUSIVE MODE;
    PERFORM set_config('session_replication_role', 'replica', true);
    FOREACH name IN ARRAY ARRAY[{names}] LOOP
        EXECUTE 'DELETE FROM ' || name;
    END LOOP;
END $$
"""


def empty_tables() -> None:
    """On a server of somebody else, where we may not do as we like, by Django's own command."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('is_superuser')")
        if cursor.fetchone() != ("on",):
            call_command("flush", interactive=False, verbosity=0)
            return
        names = connection.introspection.django_table_names(only_existing=True, include_views=False)
        quoted = [connection.ops.quote_name(name) for name in sorted(names) if name not in KEPT]
        literals = ", ".join(f"'{name}'" for name in quoted)
        cursor.execute(EMPTY.format(tables=", ".join(quoted), names=literals))
