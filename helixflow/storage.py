"""How static files are stored: hashed names, compressed, and with the imports of our ES modules rewritten too."""

from whitenoise.storage import CompressedManifestStaticFilesStorage

_, _imports = CompressedManifestStaticFilesStorage._js_module_import_aggregation_patterns  # noqa: SLF001  # has no name


class StaticStorage(CompressedManifestStaticFilesStorage):  # type: ignore[misc]  # WhiteNoise has no types
    # Without it `import "./copy.js"` would name a file that browsers may keep after a deployment. Django's own switch
    # takes every *.js, and fails on packages whose comments look like imports (django-htmx's types).
    patterns = (*CompressedManifestStaticFilesStorage.patterns, ("js/*.js", _imports))
