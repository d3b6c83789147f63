-- The ledger: what is known about each study, on the trusted side only (design 3 and 6.3).
-- Read by dataset_builder/ledger_file.py, which sets `PRAGMA user_version` to its SCHEMA_VERSION; a change here is a new version.
-- Text of the archive is stored with lone surrogates escaped as \udcXX, since SQLite's text is UTF-8.

-- One row a study: the unit of work. `outcome` is the whole StudyOutcome as JSON (dataset_builder/outcome_json.py);
-- it outlives a later failure, so that a study once mined does not leave the dataset when the archive is away.
CREATE TABLE study (
  number             INTEGER PRIMARY KEY,       -- the study's name in messages, free of UIDs
  study_instance_uid TEXT NOT NULL UNIQUE,
  patient_id         TEXT NOT NULL,
  study_date         TEXT NOT NULL,             -- YYYYMMDD as the archive listed it, '' if unknown
  state              TEXT NOT NULL CHECK (state IN ('done', 'failed')),
  fingerprint        TEXT NOT NULL,             -- of the listing that was mined, '' if it never was
  settings_digest    TEXT NOT NULL,             -- of the settings it was mined under
  attempts           INTEGER NOT NULL,          -- since the study was last done
  last_error         TEXT NOT NULL,             -- '' when done
  objects_read       INTEGER NOT NULL,
  lesions            INTEGER NOT NULL,          -- placed lesions of the outcome
  outcome            TEXT                       -- NULL where the study was never mined
) STRICT;

-- The following five are the outcome again, flat, for people's queries. One row a bookmark:
CREATE TABLE bookmark (
  study_instance_uid TEXT NOT NULL REFERENCES study (study_instance_uid),
  key                TEXT NOT NULL,             -- SOP Instance UID of the source, '#', path of the item
  source_uid         TEXT NOT NULL,             -- SOP Instance UID of the source
  kind               TEXT NOT NULL,
  dialect            TEXT NOT NULL,
  writer             TEXT NOT NULL,
  verdict            TEXT NOT NULL CHECK (verdict IN ('kept', 'rejected')),
  reason             TEXT NOT NULL,             -- code, '' for kept ones
  facts              TEXT NOT NULL              -- JSON object: the reason's numbers
) STRICT;
CREATE INDEX bookmark_by_study ON bookmark (study_instance_uid);
CREATE INDEX bookmark_by_key ON bookmark (key);
CREATE INDEX bookmark_by_source ON bookmark (source_uid);

-- One row an image referenced by a bookmark:
CREATE TABLE bookmark_image (
  study_instance_uid TEXT NOT NULL REFERENCES study (study_instance_uid),
  key                TEXT NOT NULL,
  sop_instance_uid   TEXT NOT NULL,
  frame_number       INTEGER NOT NULL
) STRICT;
CREATE INDEX bookmark_image_by_study ON bookmark_image (study_instance_uid);
CREATE INDEX bookmark_image_by_uid ON bookmark_image (sop_instance_uid);

-- One row a flag on a bookmark:
CREATE TABLE note (
  study_instance_uid TEXT NOT NULL REFERENCES study (study_instance_uid),
  key                TEXT NOT NULL,
  verdict            TEXT NOT NULL CHECK (verdict IN ('kept', 'rejected')),
  code               TEXT NOT NULL,
  facts              TEXT NOT NULL              -- JSON object
) STRICT;
CREATE INDEX note_by_study ON note (study_instance_uid);

-- One row an object or image that could not be read; without a study where it could not be assigned to one:
CREATE TABLE unreadable (
  study_instance_uid TEXT REFERENCES study (study_instance_uid),
  source             TEXT NOT NULL,             -- SOP Instance UID or path
  why                TEXT NOT NULL,             -- code
  facts              TEXT NOT NULL,             -- JSON object
  detail             TEXT NOT NULL
) STRICT;
CREATE INDEX unreadable_by_study ON unreadable (study_instance_uid);

-- What moved for each study and what did not: deeplesion_miner.studies.Transfers, name for name.
CREATE TABLE transfer (
  study_instance_uid     TEXT NOT NULL PRIMARY KEY REFERENCES study (study_instance_uid),
  objects                INTEGER NOT NULL,
  bytes                  INTEGER NOT NULL,
  images                 INTEGER NOT NULL,
  image_bytes            INTEGER NOT NULL,
  images_in_studies      INTEGER NOT NULL,
  images_not_transferred INTEGER NOT NULL,
  bytes_not_transferred  INTEGER NOT NULL
) STRICT;

-- Indices of pseudonymous patients, studies and series: given once, never changed, never given to another.
CREATE TABLE patient_index (
  patient_id TEXT NOT NULL PRIMARY KEY,
  number     INTEGER NOT NULL UNIQUE
) STRICT;
CREATE TABLE study_index (
  patient_id TEXT NOT NULL,
  study_id   TEXT NOT NULL,
  number     INTEGER NOT NULL,
  PRIMARY KEY (patient_id, study_id),
  UNIQUE (patient_id, number)
) STRICT;
CREATE TABLE series_index (
  study_id  TEXT NOT NULL,
  series_id TEXT NOT NULL,
  number    INTEGER NOT NULL,
  PRIMARY KEY (study_id, series_id),
  UNIQUE (study_id, number)
) STRICT;

-- The way back from the public side. `kind` names what is meant: patient, study, series, source, bookmark, lesion.
-- One public id has several originals where an archive writes one identifier in several ways (padding).
CREATE TABLE crosswalk (
  public_id TEXT NOT NULL,
  kind      TEXT NOT NULL,
  original  TEXT NOT NULL,
  PRIMARY KEY (public_id, kind, original)
) STRICT, WITHOUT ROWID;
CREATE INDEX crosswalk_by_original ON crosswalk (original);

-- What must stay the same for the life of a ledger, e.g. the digest of the pseudonym key.
CREATE TABLE bound (
  name  TEXT NOT NULL PRIMARY KEY,
  value TEXT NOT NULL
) STRICT;

-- One row a run. Times are UTC, ISO 8601.
CREATE TABLE run (
  number   INTEGER PRIMARY KEY,
  command  TEXT NOT NULL,
  archive  TEXT NOT NULL,
  started  TEXT NOT NULL,
  finished TEXT,                                -- NULL: still running, or killed
  summary  TEXT                                 -- JSON object
) STRICT;
