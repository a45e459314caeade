import django.core.validators
import django.db.models.deletion
from django.db import migrations, models

import helixflow.lib.ids


class Migration(migrations.Migration):
    dependencies = [("inference", "0001_initial")]

    operations = [
        migrations.RenameField("provider", "sealed_api_key", "sealed_credential"),
    ]
