"""Mail libraries and programs of other languages, as people use them: what they compose arrives as it was meant."""

import json
import os
import subprocess
from collections.abc import Callable
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import pytest
import trustme

from tests.smtp.conftest import PASSWORD, SHOP, Server

from .programs import program, unpacked

pytestmark = pytest.mark.world

# Each reads as JSON: port, ca, password, and the file to attach.
PHPMAILER = """<?php
require '/usr/share/php/libphp-phpmailer/autoload.php';
$given = json_decode($argv[1], true);
$mail = new PHPMailer\\PHPMailer\\PHPMailer(true);
$mail->isSMTP();
$mail->Host = 'localhost'; $mail->Port = $given['port']; $mail->SMTPSecure = 'tls';
$mail->SMTPOptions = ['ssl' => ['cafile' => $given['ca']]];
$mail->SMTPAuth = true; $mail->Username = 'shop'; $mail->Password = $given['password'];
$mail->CharSet = 'UTF-8';
$mail->setFrom('shop@contoso.com', 'Shop Ö');
$mail->addAddress('ann@contoso.com', 'Lee, Ann'); $mail->addBCC('bob@contoso.com');
$mail->Subject = 'Grüße'; $mail->Body = '<p>Grüße</p>'; $mail->AltBody = 'Grüße'; $mail->isHTML(true);
$mail->addAttachment($given['file'], 'plän.csv');
$mail->send();
"""
SYMFONY = """<?php
require '/usr/share/php/Symfony/Component/Mailer/autoload.php';
use Symfony\\Component\\Mailer\\Transport\\Smtp\\EsmtpTransport;
use Symfony\\Component\\Mailer\\Mailer;
use Symfony\\Component\\Mime\\{Address, Email};
$given = json_decode($argv[1], true);
$transport = new EsmtpTransport('localhost', $given['port']);
$transport->setUsername('shop'); $transport->setPassword($given['password']);
$transport->getStream()->setStreamOptions(['ssl' => ['cafile' => $given['ca']]]);
(new Mailer($transport))->send((new Email())->from(new Address('shop@contoso.com', 'Shop Ö'))
  ->to(new Address('ann@contoso.com', 'Lee, Ann'))->bcc('bob@contoso.com')->subject('Grüße')
  ->text('Grüße')->html('<p>Grüße</p>')->attachFromPath($given['file'], 'plän.csv', 'text/csv'));
"""
RUBY = """
require 'mail'
given = JSON.parse(ARGV[0])
mail = Mail.new(charset: 'UTF-8') do
  from '"Shop Ö" <shop@contoso.com>'
  to '"Lee, Ann" <ann@contoso.com>'
  bcc 'bob@contoso.com'
  subject 'Grüße'
  text_part { content_type 'text/plain; charset=UTF-8'; body 'Grüße' }
  html_part { content_type 'text/html; charset=UTF-8'; body '<p>Grüße</p>' }
end
mail.attachments['plän.csv'] = { mime_type: 'text/csv', content: File.binread(given['file']) }
mail.delivery_method :smtp, address: 'localhost', port: given['port'], user_name: 'shop',
  password: given['password'], authentication: :plain, enable_starttls: true, ca_file: given['ca']
mail.deliver!
"""
JAVA = """
import java.io.File;
import java.util.Properties;
import javax.mail.*;
import javax.mail.internet.*;

public class Send {
  public static void main(String[] given) throws Exception {
    Properties settings = new Properties();
    settings.put("mail.smtp.host", "localhost");
    settings.put("mail.smtp.port", given[0]);
    settings.put("mail.smtp.starttls.required", "true");
    settings.put("mail.smtp.auth", "true");
    settings.put("mail.smtp.ssl.checkserveridentity", "true");
    Session session = Session.getInstance(settings, new Authenticator() {
      protected PasswordAuthentication getPasswordAuthentication() {
        return new PasswordAuthentication("shop", given[1]);
      }
    });
    MimeMessage message = new MimeMessage(session);
    message.setFrom(new InternetAddress("shop@contoso.com", "Shop \\u00d6", "UTF-8"));
    message.addRecipient(Message.RecipientType.TO, new InternetAddress("ann@contoso.com", "Lee, Ann", "UTF-8"));
    message.addRecipient(Message.RecipientType.BCC, new InternetAddress("bob@contoso.com"));
    message.setSubject("Gr\\u00fc\\u00dfe", "UTF-8");
    MimeBodyPart text = new MimeBodyPart(), html = new MimeBodyPart(), both = new MimeBodyPart();
    text.setText("Gr\\u00fc\\u00dfe", "UTF-8");
    html.setText("<p>Gr\\u00fc\\u00dfe</p>", "UTF-8", "html");
    both.setContent(new MimeMultipart("alternative", text, html));
    MimeBodyPart file = new MimeBodyPart();
    file.attachFile(new File(given[2]), "text/csv", "base64");
    file.setFileName(MimeUtility.encodeText("pl\\u00e4n.csv", "UTF-8", "B"));
    message.setContent(new MimeMultipart(both, file));
    Transport.send(message);
  }
}
"""
GO = """
package main

import (
  "crypto/tls"
  "crypto/x509"
  "encoding/json"
  "net/smtp"
  "os"
  "strconv"
)

func check(err error) { if err != nil { println(err.Error()); os.Exit(1) } }

func main() {
  var given struct { Port int; Ca, Password, Message string }
  check(json.Unmarshal([]byte(os.Args[1]), &given))
  ca, err := os.ReadFile(given.Ca)
  check(err)
  roots := x509.NewCertPool()
  roots.AppendCertsFromPEM(ca)
  client, err := smtp.Dial("localhost:" + strconv.Itoa(given.Port))
  check(err)
  check(client.StartTLS(&tls.Config{ServerName: "localhost", RootCAs: roots}))
  check(client.Auth(smtp.PlainAuth("", "shop", given.Password, "localhost")))
  check(client.Mail("shop@contoso.com"))
  for _, one := range []string{"ann@contoso.com", "bob@contoso.com"} { check(client.Rcpt(one)) }
  writer, err := client.Data()
  check(err)
  message, err := os.ReadFile(given.Message)
  check(err)
  _, err = writer.Write(message)
  check(err)
  check(writer.Close())
  check(client.Quit())
}
"""
FILE = "ä;b\n".encode() * 50_000


class Library:
    """Sends one mail to this server, with a login over TLS."""

    def __init__(self, server: Server, folder: Path, ca: trustme.CA) -> None:
        self.server, self.folder, self.ca = server, folder, folder / "ca.pem"
        ca.cert_pem.write_to_path(self.ca)
        (folder / "plan.csv").write_bytes(FILE)

    def given(self, **more: str) -> str:
        said = {
            "port": self.server.port,
            "ca": str(self.ca),
            "password": PASSWORD,
            "file": str(self.folder / "plan.csv"),
        }
        return json.dumps({**said, **more})

    def source(self, name: str, text: str) -> Path:
        (self.folder / name).write_text(text)
        return self.folder / name

    def run(self, *command: str | Path, given: bytes = b"", **environment: str) -> None:
        here = {**os.environ, "HOME": str(self.folder), "LC_ALL": "C.UTF-8", **environment}
        ran = subprocess.run(
            command, input=given, capture_output=True, cwd=self.folder, timeout=110, check=False, env=here
        )
        assert ran.returncode == 0, (ran.stdout + ran.stderr).decode()


def phpmailer(library: Library) -> None:
    php = program("php", "php-cli")
    unpacked("libphp-phpmailer", "usr/share/php/libphp-phpmailer/autoload.php")
    library.run(php, library.source("send.php", PHPMAILER), library.given())


def symfony(library: Library) -> None:
    php = program("php", "php-cli")
    unpacked("php-symfony-mailer", "usr/share/php/Symfony/Component/Mailer/autoload.php")
    library.run(php, library.source("send.php", SYMFONY), library.given())


def ruby(library: Library) -> None:
    unpacked("ruby-mail", "usr/lib/ruby/vendor_ruby/mail/mail.rb")
    library.run(program("ruby", "ruby-mail"), "-rjson", library.source("send.rb", RUBY), library.given())


def java(library: Library) -> None:
    compiler = program("javac", "default-jdk-headless")
    jar = unpacked("libmail-java", "usr/share/java/javax.mail.jar") / "usr/share/java"
    path = f"{jar}/javax.mail.jar:{jar}/javax.activation.jar:{library.folder}"
    store = library.folder / "trust"
    importing = ["-importcert", "-noprompt", "-storepass", "changeit", "-keystore", store, "-file", library.ca]
    library.run(program("keytool", "default-jdk-headless"), *importing)
    library.run(compiler, "-cp", path, "-d", library.folder, library.source("Send.java", JAVA))
    arguments = [str(library.server.port), PASSWORD, library.folder / "plan.csv"]
    trust = [f"-Djavax.net.ssl.trustStore={store}", "-Djavax.net.ssl.trustStorePassword=changeit"]
    library.run(program("java", "default-jdk-headless"), *trust, "-cp", path, "Send", *arguments)


def go(library: Library) -> None:
    message = library.folder / "message"
    message.write_bytes(composed_by_python().as_bytes(policy=policy.SMTP))
    command = [program("go", "golang-go"), "run", library.source("send.go", GO), library.given(message=str(message))]
    library.run(*command, GOCACHE="/tmp/postroom-go-cache", GOFLAGS="-mod=mod", GO111MODULE="off")


def nullmailer(library: Library) -> None:
    root = unpacked("nullmailer", "usr/lib/nullmailer/smtp")
    queued = b"shop@contoso.com\nann@contoso.com\nbob@contoso.com\n\n" + composed_by_python().as_bytes()
    mail = library.folder / "queued"
    mail.write_bytes(queued)
    options = [f"--port={library.server.port}", "--user=shop", f"--pass={PASSWORD}", "--starttls"]
    command = [root / "usr/lib/nullmailer/smtp", "--host=localhost", *options, f"--x509cafile={library.ca}"]
    library.run("sh", "-c", 'exec "$@" 3< queued', "sh", *command, HELOHOST="web1.example")


def s_nail(library: Library) -> None:
    settings = [
        "-Sv15-compat",
        f"-Smta=smtp://shop:{PASSWORD.replace(' ', '%20')}@localhost:{library.server.port}",
        "-Ssmtp-use-starttls",
        "-Ssmtp-auth=login",
        f"-Stls-ca-file={library.ca}",
        "-Stls-ca-no-defaults",
        "-Stls-verify=strict",
        "-Sttycharset=utf-8",
        "-Sfullnames",
        "-Ssendcharsets=utf-8",
        "-Sfrom=Shop Ö <shop@contoso.com>",
    ]
    command = [program("s-nail", "s-nail"), "-:/", *settings, "-a", "plän.csv", "-s", "Grüße", "-b", "bob@contoso.com"]
    (library.folder / "plän.csv").write_bytes(FILE)
    library.run(*command, '"Lee, Ann" <ann@contoso.com>', given="Grüße".encode())


def composed_by_python() -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = (
        '"Shop Ö" <shop@contoso.com>',
        '"Lee, Ann" <ann@contoso.com>',
        "Grüße",
    )
    message.set_content("Grüße")
    message.add_alternative("<p>Grüße</p>", subtype="html")
    message.add_attachment(FILE, maintype="text", subtype="csv", filename="plän.csv")
    return message


SENDERS = {one.__name__: one for one in (phpmailer, symfony, ruby, java, go, nullmailer, s_nail)}


@pytest.mark.parametrize("send", SENDERS.values(), ids=SENDERS)
def test_what_a_library_composes_arrives_as_it_was_meant(
    send: Callable[[Library], None], open_server: Callable[..., Server], tmp_path: Path, authority: trustme.CA
) -> None:
    server = open_server(SHOP)
    send(Library(server, tmp_path, authority))

    (mail,) = server.kept.mails
    assert mail.sender == '"Shop Ö" <shop@contoso.com>'
    assert (mail.to, mail.bcc) == (('"Lee, Ann" <ann@contoso.com>',), ("bob@contoso.com",))
    assert isinstance(mail.mime, bytes)
    read = message_from_bytes(mail.mime, policy=policy.default)
    assert isinstance(read, EmailMessage)
    text, html = read.get_body(("plain",)), read.get_body(("html",))
    assert text is not None
    assert (read["subject"], text.get_content().strip()) == ("Grüße", "Grüße")
    assert html is None if send is s_nail else html is not None and html.get_content().strip() == "<p>Grüße</p>"
    (file,) = [part for part in read.walk() if part.get_filename()]  # Ruby has it among the alternatives
    content = file.get_payload(decode=True).replace(b"\r\n", b"\n")  # it is text, after all
    assert (file.get_filename(), content) == ("plän.csv", FILE)
