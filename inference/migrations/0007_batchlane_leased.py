from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("inference", "0006_batches"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="batchlane",
            index=models.Index(
                condition=models.Q(("lease__isnull", False)), fields=["leased_until"], name="batchlane_leased"
            ),
        ),
    ]
