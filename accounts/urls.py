"""The account pages."""

from django.urls import path

from accounts import profile, views

urlpatterns = [
    path("signup", views.sign_up, name="signup"),
    path("login", views.log_in, name="login"),
    path("logout", views.log_out, name="logout"),
    path("verify-email/resend", profile.resend_verification, name="verify-email-resend"),
    path("verify-email/<str:token>", views.verify_email, name="verify-email"),
    path("password/forgot", views.forgotten_password, name="password-forgotten"),
    path("password/forgot/sent", views.forgotten_password_sent, name="password-forgotten-sent"),
    path("password/reset/<str:user_id>/<str:token>", views.reset_password, name="password-reset"),
    path("dashboard/profile", profile.profile, name="profile"),
    path("dashboard/profile/email", profile.change_email, name="profile-email"),
    path("dashboard/profile/password", profile.change_password, name="profile-password"),
]
