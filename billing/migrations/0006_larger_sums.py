"""Larger sums of usage, which triggers keep: each statement on the hours adds what it changed, whoever runs it."""

import django.db.models.deletion
from decimal import Decimal
from django.db import migrations, models

# What was kept, and what changed: [[1 or -1, {code: requests}], …].
FAILURES = """
CREATE FUNCTION billing_failures(kept jsonb, changes jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
SELECT coalesce(jsonb_object_agg(code, times), '{}') FROM (
    SELECT code, sum(times) AS times FROM (
        SELECT key AS code, value::bigint AS times FROM jsonb_each_text(kept)
        UNION ALL
        SELECT each.key, (change ->> 0)::bigint * each.value::bigint
        FROM jsonb_array_elements(changes) change, jsonb_each_text(change -> 1) each
    ) AS told GROUP BY code HAVING sum(times) <> 0
) AS summed
$$
"""
# In one order, like the hours: writers of an organization wait for each other there (billing.metering.rollups).
ADD = """
INSERT INTO {table} AS kept (
    organization_id, hour, {key} model, deployment, requests, units, failures, prompt_tokens, cached_tokens,
    completion_tokens, cost, duration_digits, first_token_digits)
SELECT organization_id, {begins} AS begins, {key} model, deployment,
    sum(sign * requests), sum(sign * units),
    billing_failures('{{}}', coalesce(
        jsonb_agg(jsonb_build_array(sign, failures)) FILTER (WHERE failures <> '{{}}'), '[]')),
    sum(sign * prompt_tokens), sum(sign * cached_tokens), sum(sign * completion_tokens), sum(sign * cost),
    sum(sign * duration_digits), sum(sign * first_token_digits)
FROM ({changed}) AS changed
GROUP BY organization_id, begins, {key} model, deployment
ORDER BY organization_id, begins, {key} model, deployment
ON CONFLICT (organization_id, hour, {key} model, deployment) DO UPDATE SET
    requests = kept.requests + excluded.requests,
    units = kept.units + excluded.units,
    failures = CASE WHEN excluded.failures = '{{}}' THEN kept.failures
        ELSE billing_failures(kept.failures, jsonb_build_array(jsonb_build_array(1, excluded.failures))) END,
    prompt_tokens = kept.prompt_tokens + excluded.prompt_tokens,
    cached_tokens = kept.cached_tokens + excluded.cached_tokens,
    completion_tokens = kept.completion_tokens + excluded.completion_tokens,
    cost = kept.cost + excluded.cost,
    duration_digits = kept.duration_digits + excluded.duration_digits,
    first_token_digits = kept.first_token_digits + excluded.first_token_digits;
"""
DROP_EMPTY = """
DELETE FROM {table} WHERE requests = 0 AND (organization_id, hour) IN (
    SELECT organization_id, {begins} FROM removed);
"""
DAY = "date_trunc('day', hour, 'UTC')"
TABLES = (
    {"table": "billing_usageday", "begins": DAY, "key": "api_key_id,"},
    {"table": "billing_usagedayofallkeys", "begins": DAY, "key": ""},
    {"table": "billing_usagehourofallkeys", "begins": "hour", "key": ""},
)
TRIGGER = """
CREATE FUNCTION billing_days_{name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NULL; END $$;
CREATE TRIGGER billing_days_{name} AFTER {event} ON billing_usagehour {tables}
FOR EACH STATEMENT EXECUTE FUNCTION billing_days_{name}();
"""
PLUS = "SELECT 1 AS sign, added.* FROM added"
MINUS = "SELECT -1 AS sign, removed.* FROM removed"


def _add(changed):
    return "".join(ADD.format(changed=changed, **table) for table in TABLES)


TRIGGERS = {
    "insert": (_add(PLUS), "REFERENCING NEW TABLE AS added"),
    "update": (_add(f"{PLUS} UNION ALL {MINUS}"), "REFERENCING NEW TABLE AS added OLD TABLE AS removed"),
    "delete": (
        _add(MINUS) + "".join(DROP_EMPTY.format(**table) for table in TABLES),
        "REFERENCING OLD TABLE AS removed",
    ),
}


def _trigger(name):
    body, tables = TRIGGERS[name]
    made = TRIGGER.format(name=name, body=body, event=name.upper(), tables=tables)
    undone = f"DROP TRIGGER billing_days_{name} ON billing_usagehour; DROP FUNCTION billing_days_{name}()"
    return migrations.RunSQL([(made, None)], undone)


def _sums(name, constraint, *, by_key):
    key = [("api_key", models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name="+", to="accounts.apikey"))]
    return migrations.CreateModel(
        name=name,
        fields=[
            ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
            ("hour", models.DateTimeField()),
            ("model", models.TextField(blank=True)),
            ("deployment", models.TextField(blank=True)),
            ("requests", models.BigIntegerField(default=0)),
            ("units", models.BigIntegerField(default=0)),
            ("failures", models.JSONField(default=dict)),
            ("prompt_tokens", models.BigIntegerField(default=0)),
            ("cached_tokens", models.BigIntegerField(default=0)),
            ("completion_tokens", models.BigIntegerField(default=0)),
            ("cost", models.DecimalField(decimal_places=12, default=Decimal("0"), max_digits=24)),
            ("duration_digits", models.DecimalField(decimal_places=0, default=Decimal("0"), max_digits=1000)),
            ("first_token_digits", models.DecimalField(decimal_places=0, default=Decimal("0"), max_digits=1000)),
            *(key if by_key else []),
            ("organization", models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, to="accounts.organization")),
        ],
        options={
            "constraints": [
                models.UniqueConstraint(
                    fields=["organization", "hour", *(["api_key"] if by_key else []), "model", "deployment"],
                    name=constraint,
                )
            ],
        },
    )


class Migration(migrations.Migration):
    dependencies = [("accounts", "0006_two_factor"), ("billing", "0005_plan_and_support")]

    operations = [
        _sums("UsageDay", "usage_day_unique", by_key=True),
        _sums("UsageDayOfAllKeys", "usage_day_of_all_keys_unique", by_key=False),
        _sums("UsageHourOfAllKeys", "usage_hour_of_all_keys_unique", by_key=False),
        migrations.RunSQL([(FAILURES, None)], "DROP FUNCTION billing_failures(jsonb, jsonb)"),
        *(_trigger(name) for name in TRIGGERS),
        migrations.RunSQL([(_add("SELECT 1 AS sign, h.* FROM billing_usagehour h"), None)], migrations.RunSQL.noop),
    ]
