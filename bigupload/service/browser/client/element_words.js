// The words of <big-upload>: in the language of the page, and each replaceable by the property `texts`.
//
// `problem_…` are by a problem's code or kind; what has none is told as the problem says it.

const EN = {
  choose: "Choose files or drop them here",
  choose_one: "Choose a file or drop it here",
  choose_touch: "Choose files",
  choose_touch_one: "Choose a file",
  choose_again: "Choose the files again",
  left: "{count} files are not finished. Choose them again, all at once: they continue where they stopped.",
  total: "{done} of {count} files",
  waiting: "Waiting for its turn",
  remembered: "Not finished. Choose the same file again to resume.",
  unbegun: "Not begun. Choose the same file again.",
  starting: "Starting",
  comparing: "Comparing with what was sent before",
  hashing: "Reading the file",
  uploading: "Uploading",
  storing: "Waiting for the store",
  finishing: "Finishing",
  paused: "Paused",
  unauthorized: "Not allowed",
  failed: "Stopped",
  refused: "Not accepted",
  done: "Done",
  cancelled: "Cancelled",
  offline: "No connection. It goes on when the connection is back.",
  service: "The service does not respond. Trying again…",
  store: "The store does not respond. Trying again…",
  check: "A check of the service failed. Trying again…",
  blocked: "The store lets no page of this site upload: its CORS rules are missing. Tell those who run the site.",
  pause: "Pause",
  resume: "Resume",
  again: "Try again",
  cancel: "Cancel",
  remove: "Remove",
  left_time: "{time} left",
  not_accepted: "Not added, because this type of file is not accepted: {names}",
  accepted: "Accepted here: {types}.",
  wrong_type: "This type of file is not accepted.",
  type_video: "videos",
  type_image: "pictures",
  type_audio: "sound files",
  type_text: "text files",
  not_read: "Not added, because it can't be read: {names}",
  no_files: "Not added, because it has no files: {names}",
  twice: "Already in the list: {names}",
  more: "{count} more",
  missing: "Choose a file.",
  unfinished: "Wait until the uploads are finished.",
  unsent: "Some files could not be uploaded. Try again, or remove them.",
};

const DE = {
  choose: "Dateien auswählen oder hierher ziehen",
  choose_one: "Datei auswählen oder hierher ziehen",
  choose_touch: "Dateien auswählen",
  choose_touch_one: "Datei auswählen",
  choose_again: "Dateien noch einmal auswählen",
  left: "{count} Dateien sind nicht fertig. Wählen Sie sie noch einmal aus, alle auf einmal: Es geht dort weiter, wo sie aufgehört haben.",
  total: "{done} von {count} Dateien",
  waiting: "Wartet",
  remembered: "Nicht fertig. Wählen Sie dieselbe Datei noch einmal aus, dann geht es weiter.",
  unbegun: "Nicht begonnen. Wählen Sie dieselbe Datei noch einmal aus.",
  starting: "Beginnt",
  comparing: "Vergleicht mit dem, was schon gesendet ist",
  hashing: "Liest die Datei",
  uploading: "Lädt hoch",
  storing: "Wartet auf den Speicher",
  finishing: "Schließt ab",
  paused: "Angehalten",
  unauthorized: "Nicht erlaubt",
  failed: "Unterbrochen",
  refused: "Nicht angenommen",
  done: "Fertig",
  cancelled: "Verworfen",
  offline: "Keine Verbindung. Es geht weiter, sobald sie wieder da ist.",
  service: "Der Dienst antwortet nicht. Neuer Versuch …",
  store: "Der Speicher antwortet nicht. Neuer Versuch …",
  check: "Eine Prüfung des Dienstes ist fehlgeschlagen. Neuer Versuch …",
  blocked: "Der Speicher lässt keine Seite dieser Adresse hochladen: Seine CORS-Regeln fehlen. Sagen Sie es denen, die sie betreiben.",
  pause: "Anhalten",
  resume: "Fortsetzen",
  again: "Erneut versuchen",
  cancel: "Verwerfen",
  remove: "Entfernen",
  left_time: "noch {time}",
  not_accepted: "Nicht hinzugefügt, weil diese Art von Datei nicht angenommen wird: {names}",
  accepted: "Angenommen werden hier: {types}.",
  wrong_type: "Diese Art von Datei wird nicht angenommen.",
  type_video: "Videos",
  type_image: "Bilder",
  type_audio: "Tondateien",
  type_text: "Textdateien",
  not_read: "Nicht hinzugefügt, weil nicht lesbar: {names}",
  no_files: "Nicht hinzugefügt, weil ohne Dateien: {names}",
  twice: "Schon in der Liste: {names}",
  more: "{count} weitere",
  missing: "Wählen Sie eine Datei aus.",
  unfinished: "Warten Sie, bis alles hochgeladen ist.",
  unsent: "Einige Dateien konnten nicht hochgeladen werden. Versuchen Sie es noch einmal, oder entfernen Sie sie.",
  problem_missing_key: "Diese Seite darf gerade nichts hochladen. Laden Sie sie neu, oder melden Sie sich neu an.",
  problem_invalid_key: "Diese Seite darf gerade nichts hochladen. Laden Sie sie neu, oder melden Sie sich neu an.",
  problem_invalid_token: "Diese Seite darf gerade nichts hochladen. Laden Sie sie neu, oder melden Sie sich neu an.",
  problem_token_expired: "Die Erlaubnis zum Hochladen ist abgelaufen. Laden Sie die Seite neu, oder melden Sie sich neu an.",
  problem_token_used_up: "Im Augenblick darf nichts mehr hochgeladen werden. Laden Sie die Seite neu, oder melden Sie sich neu an.",
  problem_token_size_exceeded: "Die Datei ist größer, als Sie hochladen dürfen.",
  problem_token_type_refused: "Diese Art von Datei dürfen Sie nicht hochladen.",
  problem_quota_exceeded: "Für diese Datei ist kein Platz mehr.",
  problem_too_many_uploads: "Es sind zu viele Uploads offen. Beenden oder verwerfen Sie einige.",
  problem_empty_file: "Die Datei ist leer.",
  problem_not_media: "Der Inhalt passt nicht zum Namen, oder die Datei ist beschädigt.",
  problem_unsupported_media: "Diese Art von Datei wird nicht angenommen.",
  problem_file_too_large: "Die Datei ist zu groß.",
  problem_upload_gone: "Was von dieser Datei gesendet war, ist gelöscht. Laden Sie sie noch einmal hoch.",
  problem_upload_expired: "Was von dieser Datei gesendet war, ist gelöscht. Laden Sie sie noch einmal hoch.",
  problem_invalid_upload: "Was von dieser Datei gesendet war, wurde anderswohin gesendet. Laden Sie sie noch einmal hoch.",
  problem_not_your_upload: "Diesen Upload hat jemand anderes begonnen. Laden Sie die Datei noch einmal hoch.",
  problem_other_tab: "Diese Datei wird schon hochgeladen, hier oder in einem anderen Tab.",
  problem_invalid_field: "Diese Seite verlangt etwas, das der Dienst nicht kann. Sagen Sie es denen, die sie betreiben.",
  problem_store_blocked: "Der Speicher lässt keine Seite dieser Adresse hochladen: Seine CORS-Regeln fehlen. Sagen Sie es denen, die sie betreiben.",
  problem_network: "Die Verbindung ist fehlgeschlagen.",
  problem_busy: "Der Dienst ist überlastet.",
  problem_file: "Die Datei kann nicht gelesen werden: Sie wurde geändert, verschoben oder gelöscht.",
};

const FR = {
  choose: "Choisissez des fichiers ou déposez-les ici",
  choose_one: "Choisissez un fichier ou déposez-le ici",
  choose_touch: "Choisir des fichiers",
  choose_touch_one: "Choisir un fichier",
  choose_again: "Choisir de nouveau les fichiers",
  left: "{count} fichiers ne sont pas terminés. Choisissez-les de nouveau, tous ensemble : ils reprendront là où ils se sont arrêtés.",
  total: "{done} sur {count} fichiers",
  waiting: "En attente",
  remembered: "Pas terminé. Choisissez de nouveau le même fichier pour reprendre.",
  unbegun: "Pas commencé. Choisissez de nouveau le même fichier.",
  starting: "Démarrage",
  comparing: "Comparaison avec ce qui est déjà envoyé",
  hashing: "Lecture du fichier",
  uploading: "Envoi",
  storing: "En attente du stockage",
  finishing: "Finalisation",
  paused: "En pause",
  unauthorized: "Non autorisé",
  failed: "Interrompu",
  refused: "Refusé",
  done: "Terminé",
  cancelled: "Annulé",
  offline: "Pas de connexion. L’envoi reprendra à son retour.",
  service: "Le service ne répond pas. Nouvel essai…",
  store: "Le stockage ne répond pas. Nouvel essai…",
  check: "Une vérification du service a échoué. Nouvel essai…",
  blocked: "Le stockage n’accepte aucun envoi de ce site : ses règles CORS manquent. Signalez-le à ses responsables.",
  pause: "Pause",
  resume: "Reprendre",
  again: "Réessayer",
  cancel: "Annuler",
  remove: "Retirer",
  left_time: "encore {time}",
  not_accepted: "Non ajouté, car ce type de fichier n’est pas accepté : {names}",
  accepted: "Acceptés ici : {types}.",
  wrong_type: "Ce type de fichier n’est pas accepté.",
  type_video: "vidéos",
  type_image: "images",
  type_audio: "fichiers audio",
  type_text: "fichiers texte",
  not_read: "Non ajouté, car illisible : {names}",
  no_files: "Non ajouté, car sans fichier : {names}",
  twice: "Déjà dans la liste : {names}",
  more: "{count} de plus",
  missing: "Choisissez un fichier.",
  unfinished: "Attendez la fin des envois.",
  unsent: "Certains fichiers n’ont pas pu être envoyés. Réessayez, ou retirez-les.",
  problem_missing_key: "Cette page ne peut rien envoyer pour le moment. Rechargez-la, ou reconnectez-vous.",
  problem_invalid_key: "Cette page ne peut rien envoyer pour le moment. Rechargez-la, ou reconnectez-vous.",
  problem_invalid_token: "Cette page ne peut rien envoyer pour le moment. Rechargez-la, ou reconnectez-vous.",
  problem_token_expired: "L’autorisation d’envoi a expiré. Rechargez la page, ou reconnectez-vous.",
  problem_token_used_up: "Plus aucun fichier ne peut être envoyé pour le moment. Rechargez la page, ou reconnectez-vous.",
  problem_token_size_exceeded: "Le fichier est plus grand que ce que vous pouvez envoyer.",
  problem_token_type_refused: "Vous ne pouvez pas envoyer ce type de fichier.",
  problem_quota_exceeded: "Il n’y a plus de place pour ce fichier.",
  problem_too_many_uploads: "Trop d’envois sont ouverts. Terminez-en ou annulez-en quelques-uns.",
  problem_empty_file: "Le fichier est vide.",
  problem_not_media: "Le contenu ne correspond pas au nom, ou le fichier est endommagé.",
  problem_unsupported_media: "Ce type de fichier n’est pas accepté.",
  problem_file_too_large: "Le fichier est trop grand.",
  problem_upload_gone: "Ce qui était envoyé de ce fichier est supprimé. Envoyez-le de nouveau.",
  problem_upload_expired: "Ce qui était envoyé de ce fichier est supprimé. Envoyez-le de nouveau.",
  problem_invalid_upload: "Ce qui était envoyé de ce fichier l’a été ailleurs. Envoyez-le de nouveau.",
  problem_not_your_upload: "Quelqu’un d’autre a commencé cet envoi. Envoyez le fichier de nouveau.",
  problem_other_tab: "Ce fichier est déjà en cours d’envoi, ici ou dans un autre onglet.",
  problem_invalid_field: "Cette page demande ce que le service ne fait pas. Signalez-le à ses responsables.",
  problem_store_blocked: "Le stockage n’accepte aucun envoi de ce site : ses règles CORS manquent. Signalez-le à ses responsables.",
  problem_network: "La connexion a échoué.",
  problem_busy: "Le service est surchargé.",
  problem_file: "Le fichier ne peut pas être lu : il a été modifié, déplacé ou supprimé.",
};

const LANGUAGES = { en: EN, de: DE, fr: FR };

/** The first of these languages that there are words for; "en" if there is none. */
export function choose(tags) {
  const codes = tags.map((tag) => tag.toLowerCase().split("-")[0]);
  return codes.find((code) => Object.hasOwn(LANGUAGES, code)) ?? "en";
}

export const wordsOf = (language) => ({ ...EN, ...LANGUAGES[language] });

/** "{done} of {count} files" → "1 of 3 files" */
export const fill = (text, values) => text.replace(/\{(\w+)\}/g, (place, key) => values[key] ?? place);

/** "a.jpg, b.jpg, 3 more" */
export function few(names, texts, most = 3) {
  if (names.length <= most + 1) return names.join(", ");
  return [...names.slice(0, most), fill(texts.more, { count: names.length - most })].join(", ");
}

/** What an attribute `accept` takes, in words: "video/*,.pdf" → "Accepted here: videos and PDF." Empty: all. */
export function acceptedText(accept, texts, language) {
  const word = (one) => {
    if (one.startsWith(".")) return one.slice(1).toUpperCase();
    const [type, sub = ""] = one.split("/");
    return sub === "*" ? (texts[`type_${type}`] ?? one) : sub.replace(/^x-|\+.*$/g, "").toUpperCase();
  };
  const types = accept.split(",").map((each) => each.trim().toLowerCase()).filter(Boolean).map(word);
  if (!types.length) return "";
  return fill(texts.accepted, { types: new Intl.ListFormat(language).format(new Set(types)) });
}

/** Why it failed: in these words, else in those of the problem. */
export function problemText(problem, texts) {
  return texts[`problem_${problem.code}`] ?? texts[`problem_${problem.kind}`] ?? problem.message;
}

const UNITS = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"];

/** "26.2 MB" */
export function size(bytes, language) {
  const step = bytes < 1000 ? 0 : Math.min(UNITS.length - 1, Math.floor(Math.log10(bytes) / 3));
  const format = { style: "unit", unit: UNITS[step], unitDisplay: step ? "short" : "long", maximumFractionDigits: 1 };
  return new Intl.NumberFormat(language, format).format(bytes / 1000 ** step);
}

/** "25 sec", "3 min", "2 hr" */
export function duration(seconds, language) {
  const [value, unit] = seconds < 55 ? [Math.max(5, Math.ceil(seconds / 5) * 5), "second"]
    : seconds < 5400 ? [Math.ceil(seconds / 60), "minute"] : [Math.ceil(seconds / 3600), "hour"];
  return new Intl.NumberFormat(language, { style: "unit", unit, unitDisplay: "short" }).format(value);
}
