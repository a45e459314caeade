from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0004_audit_append_only")]

    operations = [
        migrations.AddField("organization", "contents_since", models.DateTimeField(editable=False, null=True)),
    ]
