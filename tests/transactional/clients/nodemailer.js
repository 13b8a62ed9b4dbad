// A mail as a Node application sends one.
const [host, port, security, user, pass, authority] = process.argv.slice(2)
const transport = require("nodemailer").createTransport({
  host,
  port: Number(port),
  secure: security === "ssl",
  requireTLS: true,
  auth: { user, pass },
  tls: { ca: require("fs").readFileSync(authority), servername: "localhost" },
})
transport
  .sendMail({
    from: '"緑茶堂" <shop@example.com>',
    to: '"佐藤 花子" <a@example.net>',
    bcc: "secret@example.net",
    subject: "ご注文ありがとうございます",
    text: "ご注文ありがとうございます。\n.\n",
    attachments: [{ filename: "領収書.txt", content: "領収書\n" }],
  })
  .then((sent) => console.log(sent.response))
