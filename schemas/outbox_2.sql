-- From version 1 of the outbox to version 2; `outbox.sql` is the newest one, and says what the columns mean.
ALTER TABLE object ADD COLUMN issuer_of_patient_id TEXT NOT NULL DEFAULT '';
ALTER TABLE object ADD COLUMN awaited_since_s REAL;
