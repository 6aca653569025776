-- cgrates is the engine's, reader is the notebook's: it can look at everything and change nothing.
CREATE ROLE cgrates LOGIN PASSWORD '@@TOKEN@@';
CREATE ROLE reader LOGIN PASSWORD '@@TOKEN@@';
ALTER ROLE reader SET default_transaction_read_only = on;
ALTER ROLE reader SET statement_timeout = '10s';
CREATE DATABASE cgrates OWNER cgrates;
