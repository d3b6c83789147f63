-- From version 2 of the outbox to version 3; `outbox.sql` is the newest one, and says what the columns mean.
ALTER TABLE object ADD COLUMN stored_sha256 TEXT NOT NULL DEFAULT '';
