-- The node's journal: what arrived, which studies are whole, what was asked of models and what came of it.
-- Read by dicom_io/node/journal_file.py, which states its version; a change here is a new version, to which
-- `node_N.sql` brings older journals. It identifies patients (UIDs, AE titles): trusted side only. Times are Unix
-- seconds.

-- One row a study that peers sent.
CREATE TABLE study (
  study_instance_uid TEXT NOT NULL PRIMARY KEY,
  source             TEXT NOT NULL,   -- AE title of the peer that sent its last object
  state              TEXT NOT NULL CHECK (state IN ('receiving', 'whole', 'incomplete')),
  reason             TEXT NOT NULL,   -- of the last look: what is missing, or why it could not be told
  looks              INTEGER NOT NULL,-- since the last arrival
  first_arrival_s    REAL NOT NULL,
  last_arrival_s     REAL NOT NULL,
  look_at_s          REAL NOT NULL,   -- when it is looked at next
  is_freed           INTEGER NOT NULL DEFAULT 0  -- 1: its objects were removed after their time
) STRICT, WITHOUT ROWID;
CREATE INDEX study_by_state ON study (state, look_at_s);
CREATE INDEX study_freed ON study (last_arrival_s) WHERE is_freed = 1;

-- One row a series, by what its first object says: what rules choose by.
CREATE TABLE series (
  study_instance_uid  TEXT NOT NULL,
  series_instance_uid TEXT NOT NULL,
  modality            TEXT NOT NULL,
  description         TEXT NOT NULL,  -- SeriesDescription, else ProtocolName
  body_part           TEXT NOT NULL,
  slice_thickness_mm  REAL,
  PRIMARY KEY (study_instance_uid, series_instance_uid)
) STRICT, WITHOUT ROWID;

-- One row an object that was answered with success.
CREATE TABLE object (
  sop_instance_uid    TEXT NOT NULL PRIMARY KEY,
  study_instance_uid  TEXT NOT NULL,
  series_instance_uid TEXT NOT NULL,
  sop_class_uid       TEXT NOT NULL,
  size_bytes          INTEGER NOT NULL,
  arrived_s           REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX object_by_study ON object (study_instance_uid, series_instance_uid);

-- One row a job: a rule applied to the chosen series of a whole study. The same objects make the same job.
CREATE TABLE job (
  number             INTEGER PRIMARY KEY,
  study_instance_uid TEXT NOT NULL,
  rule               TEXT NOT NULL,
  series             TEXT NOT NULL,   -- JSON array of Series Instance UIDs
  digest             TEXT NOT NULL,   -- of the rule and of the objects
  state              TEXT NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed')),
  attempts           INTEGER NOT NULL,
  reason             TEXT NOT NULL,   -- of the last failure, '' where there was none
  due_s              REAL NOT NULL,
  made_s             REAL NOT NULL,   -- when it was queued: date and time of its results
  results            INTEGER NOT NULL,
  ended_s            REAL,            -- done or failed since, NULL before
  UNIQUE (study_instance_uid, rule, digest)
) STRICT;
CREATE INDEX job_by_state ON job (state, due_s);

-- One row an object that a job made: what C-FIND answers from. `keys` is a JSON object of keywords and values.
CREATE TABLE result (
  sop_instance_uid    TEXT NOT NULL PRIMARY KEY,
  study_instance_uid  TEXT NOT NULL,
  series_instance_uid TEXT NOT NULL,
  sop_class_uid       TEXT NOT NULL,
  transfer_syntax_uid TEXT NOT NULL,
  keys                TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX result_by_study ON result (study_instance_uid, series_instance_uid);

-- One row a storage commitment request that a peer made; it stays until its report was taken or given up.
CREATE TABLE commitment (
  transaction_uid TEXT NOT NULL,
  peer            TEXT NOT NULL,
  items           TEXT NOT NULL,      -- JSON array of [SOP Class UID, SOP Instance UID]
  state           TEXT NOT NULL CHECK (state IN ('asked', 'reported', 'failed')),
  attempts        INTEGER NOT NULL,
  reason          TEXT NOT NULL,
  due_s           REAL NOT NULL,
  ended_s         REAL,               -- reported or failed since, NULL before
  PRIMARY KEY (transaction_uid, peer)
) STRICT, WITHOUT ROWID;
CREATE INDEX commitment_by_state ON commitment (state, due_s);

-- What must stay the same for the life of a journal, e.g. the key of the log's short names, and when it began.
CREATE TABLE bound (
  name  TEXT NOT NULL PRIMARY KEY,
  value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
