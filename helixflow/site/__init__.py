"""The public site and the dashboard's overview; its templates are in templates/site/."""
