"""Settings of real systems: which hold a secret."""

from __future__ import annotations

import pytest

from gdmix_core.config.secret_settings import holds_secret
from gdmix_core.errors import ConfigError
from gdmix_core.pipeline.loading import parse_config

SECRETS = (
    "spark.hadoop.fs.s3a.access.key",
    "spark.hadoop.fs.s3a.secret.key",
    "spark.hadoop.fs.s3a.session.token",
    "spark.hadoop.fs.s3a.bucket.logs.secret.key",
    "spark.hadoop.fs.s3n.awsAccessKeyId",
    "spark.hadoop.fs.s3n.awsSecretAccessKey",
    "spark.hadoop.fs.s3a.encryption.key",
    "spark.executorEnv.AWS_SECRET_ACCESS_KEY",
    "spark.executorEnv.AWS_ACCESS_KEY_ID",
    "spark.hadoop.fs.azure.account.key.a.dfs.core.windows.net",
    "spark.hadoop.fs.azure.account.oauth2.client.secret",
    "spark.hadoop.fs.azure.account.oauth2.client.secret.a.dfs.core.windows.net",
    "spark.hadoop.fs.azure.sas.c.a.blob.core.windows.net",
    "spark.hadoop.fs.azure.sas.fixed.token.a.dfs.core.windows.net",
    "spark.hadoop.fs.azure.account.oauth2.refresh.token",
    "spark.hadoop.google.cloud.auth.service.account.private.key",
    "spark.hadoop.fs.gs.auth.service.account.private.key.id",
    "spark.hadoop.fs.oss.accessKeySecret",
    "spark.hadoop.fs.oss.accessKeyId",
    "spark.hadoop.fs.cosn.userinfo.secretKey",
    "spark.hadoop.fs.obs.secret.key",
    "spark.hadoop.fs.swift.service.x.apikey",
    "spark.ssl.keyStorePassword",
    "spark.ssl.keyPassword",
    "spark.ssl.trustStorePassword",
    "spark.authenticate.secret",
    "spark.hadoop.javax.jdo.option.ConnectionPassword",
    "spark.snowflake.sfPassword",
    "spark.redis.auth",
    "spark.es.net.http.auth.pass",
    "spark.mongodb.password",
    "spark.databricks.token",
    "spark.kubernetes.authenticate.driver.oauthToken",
    "spark.kubernetes.driverEnv.DB_PASSWORD",
    "spark.hadoop.hadoop.security.credential.clearpass",
    "spark.ui.pwd",
    "spark.sql.catalog.c.adls.sas-token.prodstore",
    "spark.hadoop.fs.ftp.password.files.example.com",
    "spark.hadoop.account.key.prodstore",
    "spark.hadoop.fs.s3a.bucket.secret.access.key.eu",
)

VALUES = {
    "spark.driver.extraJavaOptions": "-Xmx1g -Djavax.net.ssl.trustStorePassword=abc",
    "spark.executor.extraJavaOptions": "-Xss8m -Dfs.s3a.secret.key=abc -Da=b",
    "spark.executor.defaultJavaOptions": "-Dfs.azure.account.key.x.dfs.core.windows.net=abc",
    "spark.datasource": "jdbc:postgresql://host/db?user=a&password=b",
    "spark.hadoop.fs.defaultFS": "s3a://someone:something@bucket",
    "spark.note": "AKIAIOSFODNN7EXAMPLE",
    "spark.certificate": "-----BEGIN RSA PRIVATE KEY-----",
}

PLAIN = {
    "spark.hadoop.fs.s3a.aws.credentials.provider": "com.amazonaws.auth.WebIdentityTokenCredentialsProvider",
    "spark.hadoop.fs.s3a.assumed.role.arn": "arn:aws:iam::1:role/x",
    "spark.hadoop.fs.s3a.endpoint": "http://minio:9000",
    "spark.kerberos.keytab": "/etc/x.keytab",
    "spark.kerberos.principal": "me@REALM",
    "spark.security.credentials.hive.enabled": "false",
    "spark.security.credentials.renewalRatio": "0.75",
    "spark.hadoop.dfs.namenode.delegation.token.max-lifetime": "604800000",
    "spark.hadoop.google.cloud.auth.service.account.json.keyfile": "/etc/key.json",
    "spark.hadoop.fs.azure.account.auth.type": "OAuth",
    "spark.hadoop.fs.azure.account.oauth2.client.id": "4a7f",
    "spark.hadoop.hadoop.security.credential.provider.path": "jceks://hdfs/x",
    "spark.kubernetes.driver.secretKeyRef.TOKEN": "name:key",
    "spark.kubernetes.driver.secrets.name": "/etc/secrets",
    "spark.kubernetes.authenticate.driver.oauthTokenFile": "/var/run/token",
    "spark.ssl.keyStore": "/etc/keystore", "spark.ssl.keyStoreType": "JKS",
    "spark.authenticate": "true", "spark.io.encryption.keySizeBits": "256",
    "spark.sql.shuffle.partitions": "8",
    "spark.max.tokens": "4096",
    "spark.kubernetes.driver.secrets.mine": "/etc/secrets",
    "spark.kafka.clusters.c.sasl.token.mechanism": "SCRAM-SHA-512",
    "spark.driver.extraJavaOptions": "-Xss8m -Dtoken.file=/run/token -Djavax.net.ssl.trustStore=/etc/store",
}  # fmt: skip


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_one_by_its_name(name):
    assert holds_secret(name, "abcX9")
    assert holds_secret(name, "12345678")


@pytest.mark.parametrize(("name", "value"), VALUES.items())
def test_a_secret_is_one_by_its_value(name, value):
    assert holds_secret(name, value)


@pytest.mark.parametrize(("name", "value"), PLAIN.items())
def test_where_a_secret_is_and_how_long_it_holds_is_none(name, value):
    assert not holds_secret(name, value)


BASE = {
    "name": "p",
    "input": "in",
    "output": "out",
    "coordinates": {"global": {"fixed_effect": {}}},
    "metrics": ["auc"],
}


def test_the_configuration_refuses_it_and_does_not_show_it():
    with pytest.raises(ConfigError, match=r"spark.conf: spark.hadoop.fs.s3a.secret.key looks like a secret") as error:
        parse_config({**BASE, "spark": {"conf": {"spark.hadoop.fs.s3a.secret.key": "wJalr"}}})
    assert "wJalr" not in str(error.value)


def test_settings_of_spark_may_be_numbers_and_booleans():
    conf = {"spark.a": 8, "spark.b": 0.5, "spark.c": True, "spark.d": "x"}
    found = parse_config({**BASE, "spark": {"conf": conf}}).spark.conf
    assert found == {"spark.a": "8", "spark.b": "0.5", "spark.c": "true", "spark.d": "x"}


@pytest.mark.parametrize("key", ["input", "output", "initial_model"])
def test_a_path_with_a_password_is_refused_and_not_shown(key):
    with pytest.raises(ConfigError, match=key) as error:
        parse_config({**BASE, key: "s3://someone:wJalr@bucket/x"})
    assert "wJalr" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input": "https://store.blob.core.windows.net/c/x?sv=2024&sig=Zm9v"}, "input: the URL holds a password or"),
        ({"input": "s3a://AKIDX:ab/cd@bucket/x"}, "input: the URL holds a password"),
        ({"input": "redis://:pw@host/x"}, "input: the URL holds a password"),
        ({"spark": {"master": "k8s://https://me:pw@host"}}, "spark.master: the URL holds a password"),
        ({"spark": {"conf": {"spark.executorEnv.PGPASSWORD": "hunter2"}}}, "PGPASSWORD looks like a secret"),
        ({"spark": {"conf": {"spark.hadoop.x.bearer": "hunter2"}}}, "bearer looks like a secret"),
        (
            {"coordinates": {"g": {"fixed_effect": {"model": "python", "function": "a:b",
                                                    "settings": {"db": [{"password": "hunter2"}]}}}}},
            "password looks like a secret",
        ),
    ],
)  # fmt: skip
def test_no_part_of_the_configuration_takes_one(change, message):
    with pytest.raises(ConfigError, match=message) as error:
        parse_config({**BASE, **change})
    assert not any(secret in str(error.value) for secret in ("Zm9v", "ab/cd", "pw@", "hunter2"))


def test_ports_and_addresses_in_paths_are_none():
    assert parse_config({**BASE, "input": "hdfs://nn:8020/data/by@day"}).input == "hdfs://nn:8020/data/by@day"
