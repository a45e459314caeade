"""How static files are stored: hashed names, compressed, and with the imports of ES modules rewritten too."""

from whitenoise.storage import CompressedManifestStaticFilesStorage


class StaticStorage(CompressedManifestStaticFilesStorage):
    # Without it `import "./copy.js"` would name a file that browsers may keep after a deployment.
    support_js_module_import_aggregation = True
