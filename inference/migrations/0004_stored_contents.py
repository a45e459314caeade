import django.db.models.deletion
from django.db import migrations, models

# What is encrypted doesn't shrink: PostgreSQL need not try.
FORWARDS = "ALTER TABLE inference_storedcontents ALTER COLUMN sealed_contents SET STORAGE EXTERNAL"


class Migration(migrations.Migration):
    dependencies = [("accounts", "0005_contents_since"), ("inference", "0003_many_clouds")]

    operations = [
        migrations.CreateModel(
            name="StoredContents",
            fields=[
                ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ("sealed_contents", models.TextField(editable=False)),
                ("expires_at", models.DateTimeField()),
                (
                    "organization",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="accounts.organization",
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "stored contents",
                "indexes": [
                    models.Index(fields=["organization", "id"], name="contents_organization"),
                    models.Index(fields=["expires_at"], name="contents_due"),
                ],
            },
        ),
        migrations.RunSQL(FORWARDS, migrations.RunSQL.noop),
    ]
