-- Brings a journal of version 1 to version 2: when jobs and reports ended, so that the old ones can be forgotten.
-- What ended before is taken to have ended just now, which only keeps it longer.

ALTER TABLE job ADD COLUMN ended_s REAL;
UPDATE job SET ended_s = CAST(strftime('%s', 'now') AS REAL) WHERE state IN ('done', 'failed');
ALTER TABLE commitment ADD COLUMN ended_s REAL;
UPDATE commitment SET ended_s = CAST(strftime('%s', 'now') AS REAL) WHERE state <> 'asked';
CREATE INDEX study_freed ON study (last_arrival_s) WHERE is_freed = 1;
DROP INDEX result_by_study;
CREATE INDEX result_by_study ON result (study_instance_uid, series_instance_uid);
