-- The outbox: objects on their way to archives, on the trusted side only.
-- Read by dicom_io/outbox_file.py, which sets `PRAGMA user_version` to its SCHEMA_VERSION; a change here is a new version.
-- Times are seconds of Unix time. Text is stored with lone surrogates escaped as \udcXX, since SQLite's text is UTF-8.

-- One row an object and a destination. Its file, named by `sha256`, is durable before the row is.
CREATE TABLE object (
  number              INTEGER PRIMARY KEY,
  destination         TEXT NOT NULL,            -- AET@host:port, or the URL of a STOW-RS service
  sop_instance_uid    TEXT NOT NULL,
  sop_class_uid       TEXT NOT NULL,
  transfer_syntax_uid TEXT NOT NULL,
  series_instance_uid TEXT NOT NULL,
  study_instance_uid  TEXT NOT NULL,
  patient_id          TEXT NOT NULL,
  issuer_of_patient_id TEXT NOT NULL DEFAULT '', -- whose numbers patient_id is one of, '' where the object does not say
  kind                TEXT NOT NULL,            -- word of dicom_io.emit.KINDS, or 'other'
  sha256              TEXT NOT NULL,            -- of the whole file, hex
  stored_sha256       TEXT NOT NULL DEFAULT '', -- of what an archive stores: transfer syntax and data set; '' where not known
  size_bytes          INTEGER NOT NULL,
  file_kept           INTEGER NOT NULL CHECK (file_kept IN (0, 1)),
  state               TEXT NOT NULL CHECK (state IN ('queued', 'sent', 'committed', 'verified', 'failed', 'dead')),
  reason              TEXT NOT NULL,            -- name of schemas/delivery.toml [reason], '' for none
  detail              TEXT NOT NULL,            -- what the archive said
  attempts            INTEGER NOT NULL,         -- times that it did not arrive, for passing reasons
  refusals            INTEGER NOT NULL,         -- times that the archive refused it
  maybe_there         INTEGER NOT NULL CHECK (maybe_there IN (0, 1)), -- its bytes may have gone out: ask before sending
  due_s               REAL NOT NULL,            -- when it is to be sent, or (state 'sent') to be confirmed
  owner               TEXT NOT NULL,            -- process that works on it now, '' for none
  transaction_uid     TEXT NOT NULL,            -- of the last storage commitment request, '' for none
  queued_s            REAL NOT NULL,
  sent_s              REAL,                     -- last answer that it was stored
  settled_s           REAL,                     -- committed, verified or dead since
  awaited_since_s     REAL,                     -- the archive has not had the study since, NULL where it is not waited for
  UNIQUE (destination, sop_instance_uid)
) STRICT;
CREATE INDEX object_by_due ON object (destination, state, due_s);
CREATE INDEX object_by_study ON object (study_instance_uid);
CREATE INDEX object_by_owner ON object (owner) WHERE owner <> '';
CREATE INDEX object_by_file ON object (sha256);

-- One row a storage commitment request; written before it is made, so that no report comes for an unknown one.
CREATE TABLE commitment (
  transaction_uid TEXT NOT NULL PRIMARY KEY,
  destination     TEXT NOT NULL,
  objects         INTEGER NOT NULL,
  requested_s     REAL NOT NULL,
  reported_s      REAL                          -- of the first report, NULL while there was none
) STRICT, WITHOUT ROWID;
