BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0006');
CREATE TABLE arm (
	interaction_id VARCHAR NOT NULL, 
	policy VARCHAR NOT NULL, 
	challenger INTEGER NOT NULL, 
	name VARCHAR NOT NULL, 
	subject VARCHAR NOT NULL, 
	seconds DOUBLE, 
	CONSTRAINT pk_arm PRIMARY KEY (interaction_id)
);
CREATE TABLE attempt (
	id VARCHAR NOT NULL, 
	policy VARCHAR NOT NULL, 
	state VARCHAR NOT NULL, 
	parent INTEGER NOT NULL, 
	high_water BIGINT NOT NULL, 
	started_at DOUBLE NOT NULL, 
	version INTEGER, tries INTEGER DEFAULT '0' NOT NULL, problem TEXT, 
	CONSTRAINT pk_attempt PRIMARY KEY (id)
);
INSERT INTO "attempt" VALUES('a1','default','finished',1,1,1.0,2,0,NULL);
CREATE TABLE canary (
	id VARCHAR NOT NULL, 
	policy VARCHAR NOT NULL, 
	version INTEGER NOT NULL, 
	champion INTEGER NOT NULL, 
	salt VARCHAR NOT NULL, 
	share DOUBLE NOT NULL, 
	state VARCHAR NOT NULL, 
	started_at DOUBLE NOT NULL, 
	ended_at DOUBLE, 
	why TEXT NOT NULL, 
	figures JSON NOT NULL, 
	CONSTRAINT pk_canary PRIMARY KEY (id)
);
CREATE TABLE canary_observation (
	canary_id VARCHAR NOT NULL, 
	seq BIGINT NOT NULL, 
	metric VARCHAR NOT NULL, 
	arm VARCHAR NOT NULL, 
	value DOUBLE NOT NULL, 
	subject VARCHAR, 
	CONSTRAINT pk_canary_observation PRIMARY KEY (canary_id, seq)
);
CREATE TABLE completion (
	interaction_id VARCHAR NOT NULL, 
	choice INTEGER NOT NULL, 
	token_ids JSON NOT NULL, 
	logprobs JSON NOT NULL, 
	processed_logprobs JSON NOT NULL, 
	text TEXT NOT NULL, 
	finish_reason VARCHAR NOT NULL, 
	tool_calls JSON, 
	CONSTRAINT pk_completion PRIMARY KEY (interaction_id, choice)
);
INSERT INTO "completion" VALUES('chatcmpl-0001',0,'[4, 5]','[-0.5, -0.25]','[-0.5, -0.25]','hi','stop','null');
INSERT INTO "completion" VALUES('chatcmpl-0002',0,'[4, 5]','[-0.5, -0.25]','[-0.5, -0.25]','hi','stop','null');
INSERT INTO "completion" VALUES('chatcmpl-0003',0,'[4, 5]','[-0.5, -0.25]','[-0.5, -0.25]','hi','stop','null');
CREATE TABLE counter (
	name VARCHAR NOT NULL, 
	value BIGINT NOT NULL, 
	CONSTRAINT pk_counter PRIMARY KEY (name)
);
INSERT INTO "counter" VALUES('credit',2);
CREATE TABLE credit (
	interaction_id VARCHAR NOT NULL, 
	choice INTEGER NOT NULL, 
	event VARCHAR NOT NULL, 
	policy VARCHAR NOT NULL, 
	seq BIGINT NOT NULL, 
	CONSTRAINT pk_credit PRIMARY KEY (interaction_id, choice, event)
);
INSERT INTO "credit" VALUES('chatcmpl-0001',0,'local/fb-0001','default',1);
INSERT INTO "credit" VALUES('chatcmpl-0003',0,'local/fb-0003','default',2);
CREATE TABLE erasure (
	tenant VARCHAR NOT NULL, 
	person VARCHAR NOT NULL, 
	until DOUBLE NOT NULL, 
	CONSTRAINT pk_erasure PRIMARY KEY (tenant, person)
);
INSERT INTO "erasure" VALUES('local','6acd607df7b4dfe85240e3405ec9385b',1767225600.0);
CREATE TABLE erasure_receipt (
	id VARCHAR NOT NULL, 
	tenant VARCHAR NOT NULL, 
	person VARCHAR NOT NULL, 
	at DOUBLE NOT NULL, 
	state VARCHAR NOT NULL, 
	removed JSON NOT NULL, 
	since JSON NOT NULL, 
	held JSON NOT NULL, 
	CONSTRAINT pk_erasure_receipt PRIMARY KEY (id)
);
CREATE TABLE "experience" (
	interaction_id VARCHAR NOT NULL, 
	choice INTEGER NOT NULL, 
	policy VARCHAR NOT NULL, 
	version INTEGER NOT NULL, 
	tenant VARCHAR NOT NULL, 
	user VARCHAR, 
	judged_at DOUBLE NOT NULL, 
	CONSTRAINT pk_experience PRIMARY KEY (interaction_id, choice)
);
INSERT INTO "experience" VALUES('chatcmpl-0001',0,'default',1,'local','ada',1767225661.0);
INSERT INTO "experience" VALUES('chatcmpl-0003',0,'default',1,'local','ada',1767225663.0);
CREATE TABLE feature (
	interaction_id VARCHAR NOT NULL, 
	choice INTEGER NOT NULL, 
	base_sha256 VARCHAR NOT NULL, 
	vector BLOB NOT NULL, 
	CONSTRAINT pk_feature PRIMARY KEY (interaction_id, choice, base_sha256)
);
CREATE TABLE fence (
	name VARCHAR NOT NULL, 
	token BIGINT NOT NULL, 
	CONSTRAINT pk_fence PRIMARY KEY (name)
);
CREATE TABLE interaction (
	id VARCHAR NOT NULL, 
	time DOUBLE NOT NULL, 
	tenant VARCHAR NOT NULL, 
	user VARCHAR, 
	session_id VARCHAR, 
	policy VARCHAR NOT NULL, 
	version INTEGER NOT NULL, 
	messages JSON NOT NULL, 
	tools JSON, 
	prompt_ids JSON NOT NULL, 
	sampling JSON NOT NULL, 
	memories JSON NOT NULL, 
	metadata JSON NOT NULL, 
	CONSTRAINT pk_interaction PRIMARY KEY (id)
);
INSERT INTO "interaction" VALUES('chatcmpl-0001',1767225601.0,'local','ada',NULL,'default',1,'[{"role": "user", "content": "hello"}]','null','[1, 2, 3]','{}','[]','{}');
INSERT INTO "interaction" VALUES('chatcmpl-0002',1767225602.0,'local','ada',NULL,'default',1,'[{"role": "user", "content": "hello"}]','null','[1, 2, 3]','{}','[]','{}');
INSERT INTO "interaction" VALUES('chatcmpl-0003',1767225603.0,'local','ada','s','default',1,'[{"role": "user", "content": "hello"}]','null','[1, 2, 3]','{}','[]','{}');
CREATE TABLE "judgement" (
	tenant VARCHAR NOT NULL, 
	id VARCHAR NOT NULL, 
	revision BIGINT NOT NULL, 
	time DOUBLE NOT NULL, 
	user VARCHAR, 
	interaction_id VARCHAR, 
	session_id VARCHAR, 
	choice INTEGER NOT NULL, 
	name VARCHAR NOT NULL, 
	value JSON NOT NULL, 
	rationale TEXT, 
	metadata JSON NOT NULL, 
	key_id VARCHAR, 
	CONSTRAINT pk_judgement PRIMARY KEY (tenant, id)
);
INSERT INTO "judgement" VALUES('local','fb-0001',0,1767225661.0,'ada','chatcmpl-0001',NULL,0,'thumbs','"up"',NULL,'{}',NULL);
INSERT INTO "judgement" VALUES('local','fb-0002',0,1767225662.0,'ada','chatcmpl-0002',NULL,0,'thumbs','"down"',NULL,'{}',NULL);
INSERT INTO "judgement" VALUES('local','fb-0003',0,1767225663.0,'ada',NULL,'s',0,'thumbs','"up"',NULL,'{}',NULL);
INSERT INTO "judgement" VALUES('local','fb-0004',0,1767225664.0,'ada','chatcmpl-0009',NULL,0,'thumbs','"up"',NULL,'{}',NULL);
CREATE TABLE retraction (
	tenant VARCHAR NOT NULL, 
	feedback_id VARCHAR NOT NULL, 
	time DOUBLE NOT NULL, 
	CONSTRAINT pk_retraction PRIMARY KEY (tenant, feedback_id)
);
INSERT INTO "retraction" VALUES('local','fb-0002',1767225720.0);
CREATE TABLE stream_offset (
	topic VARCHAR NOT NULL, 
	partition INTEGER NOT NULL, 
	position VARCHAR NOT NULL, 
	CONSTRAINT pk_stream_offset PRIMARY KEY (topic, partition)
);
CREATE TABLE tick (
	id VARCHAR NOT NULL, 
	kind VARCHAR NOT NULL, 
	policy VARCHAR NOT NULL, 
	at DOUBLE NOT NULL, 
	seconds DOUBLE NOT NULL, 
	did TEXT NOT NULL, 
	why_not TEXT, 
	counts JSON NOT NULL, 
	CONSTRAINT pk_tick PRIMARY KEY (id)
);
CREATE TABLE unmatched (
	tenant VARCHAR NOT NULL, 
	id VARCHAR NOT NULL, 
	since DOUBLE NOT NULL, 
	CONSTRAINT pk_unmatched PRIMARY KEY (tenant, id)
);
INSERT INTO "unmatched" VALUES('local','fb-0004',1767225664.0);
CREATE TABLE version_event (
	policy VARCHAR NOT NULL, 
	version INTEGER NOT NULL, 
	event VARCHAR NOT NULL, 
	CONSTRAINT pk_version_event PRIMARY KEY (policy, version, event)
);
INSERT INTO "version_event" VALUES('default',2,'local/fb-0001');
CREATE INDEX ix_attempt_policy ON attempt (policy);
CREATE INDEX ix_credit_event ON credit (event);
CREATE INDEX ix_credit_policy ON credit (policy, seq);
CREATE INDEX ix_interaction_policy ON interaction (policy, time);
CREATE INDEX ix_interaction_session ON interaction (tenant, session_id);
CREATE INDEX ix_tick_at ON tick (at);
CREATE INDEX ix_version_event_event ON version_event (event);
CREATE INDEX ix_experience_policy ON experience (policy, judged_at);
CREATE INDEX ix_judgement_session ON judgement (tenant, session_id);
CREATE INDEX ix_judgement_interaction ON judgement (interaction_id);
CREATE INDEX ix_unmatched_since ON unmatched (since);
CREATE INDEX ix_interaction_user ON interaction (tenant, user);
CREATE INDEX ix_interaction_time ON interaction (time);
CREATE INDEX ix_judgement_user ON judgement (tenant, user);
CREATE INDEX ix_judgement_time ON judgement (time);
CREATE INDEX ix_credit_seq ON credit (seq);
CREATE INDEX ix_erasure_receipt_state ON erasure_receipt (state);
CREATE INDEX ix_arm_canary ON arm (policy, challenger, subject);
CREATE INDEX ix_canary_policy ON canary (policy, state);
CREATE INDEX ix_canary_observation_subject ON canary_observation (canary_id, metric, subject);
COMMIT;
