"""A Django project in one file: `python -m examples.django_app` sends a mail through Postroom."""

import django
from django.conf import settings
from django.core.mail import EmailMultiAlternatives

if not settings.configured:
    settings.configure(EMAIL_BACKEND="postroom.django.EmailBackend", DEFAULT_FROM_EMAIL="Shop <noreply@contoso.com>")
    django.setup()


def confirm(order: int, email: str) -> int:
    """Tells the customer; 1, as Django counts. Called again, it tells nobody twice."""
    message = EmailMultiAlternatives(
        f"Order {order}", "Thank you.", to=[email], headers={"X-Postroom-Key": f"confirmed/{order}"}
    )
    message.attach_alternative("<p>Thank you.</p>", "text/html")
    message.attach("order.txt", f"{order}\n", "text/plain")
    return message.send()


if __name__ == "__main__":
    confirm(4711, "dan@contoso.com")
