# A mail of Rails: what stands in config/environments/production.rb, and a mailer.
require "action_mailer"
require "ostruct"

config = OpenStruct.new(action_mailer: OpenStruct.new)
eval(ARGV[0])
config.action_mailer.to_h.each { |name, value| ActionMailer::Base.public_send("#{name}=", value) }

class Orders < ActionMailer::Base
  def thanks
    attachments["領収書.txt"] = "領収書\n"
    mail(
      from: "緑茶堂 <shop@example.com>", to: "佐藤 花子 <a@example.net>", bcc: "secret@example.net", subject: "ご注文ありがとうございます",
      body: "ご注文ありがとうございます。\n.\n",
    )
  end
end

Orders.thanks.deliver_now
