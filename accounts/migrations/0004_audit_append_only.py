"""The audit log takes rows and gives none back, whoever asks: code that forgets is stopped by the database.

What is due for deletion with its organization is taken out by a transaction that says so (``accounts.audit.purge``).
"""

from django.db import migrations

FORWARDS = """
CREATE FUNCTION accounts_audit_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('helixflow.purge', true) = 'on' THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'the audit log is append-only' USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON accounts_auditevent
    FOR EACH ROW EXECUTE FUNCTION accounts_audit_append_only();
"""
BACKWARDS = """
DROP TRIGGER audit_append_only ON accounts_auditevent;
DROP FUNCTION accounts_audit_append_only();
"""


class Migration(migrations.Migration):
    dependencies = [("accounts", "0003_dashboard")]

    operations = [migrations.RunSQL(FORWARDS, BACKWARDS)]
