import django.contrib.postgres.fields
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('inference', '0004_stored_contents'),
    ]

    operations = [
        migrations.AddField(
            model_name='model',
            name='capabilities',
            field=django.contrib.postgres.fields.ArrayField(base_field=models.CharField(choices=[('chat', 'Chat'), ('streaming', 'Streaming'), ('tools', 'Tools'), ('vision', 'Vision'), ('json', 'JSON'), ('completions', 'Text completions'), ('embeddings', 'Embeddings')], max_length=20), blank=True, default=list, help_text='What people are told that it can do; none: whatever the kinds of its providers do.', size=None),
        ),
    ]
