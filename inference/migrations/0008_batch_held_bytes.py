from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("inference", "0007_batchlane_leased"),
    ]

    operations = [
        migrations.AddField(
            model_name="batch",
            name="held_bytes",
            field=models.BigIntegerField(db_default=0, default=0, editable=False),
        ),
    ]
