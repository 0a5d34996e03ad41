-- Whether a parked stage of the sink holds up later ones of its line, and the index that finds them.
ALTER TABLE sink ADD COLUMN strict BOOLEAN NOT NULL DEFAULT false;
CREATE INDEX stage_held ON stage (kind, line, seq) WHERE state = 'parked';
