// The words that <big-upload> and the upload page share, and sizes and times in words. Pure.
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
  waiting: "Waiting",
  remembered: "Not finished. Choose the same file again to resume.",
  unbegun: "Not begun. Choose the same file again.",
  starting: "Starting",
  comparing: "Checking what was already sent",
  hashing: "Reading the file",
  uploading: "Uploading",
  storing: "Waiting for the store",
  finishing: "Finishing",
  paused: "Paused",
  unauthorized: "Not allowed",
  failed: "Stopped",
  refused: "Not accepted",
  done: "Uploaded",
  cancelled: "Cancelled",
  offline: "No connection. Uploads continue by themselves when it is back.",
  service: "The service does not respond. Trying again…",
  store: "The store does not respond. Trying again…",
  check: "A check of the service failed. Trying again…",
  blocked: "The store lets no page of this site upload: its CORS rules are missing. Tell those who run the site.",
  pause: "Pause",
  resume: "Resume",
  again: "Try again",
  cancel: "Cancel",
  remove: "Remove",
  part_of: "{part} of {whole}",
  on_the_way: "{size} on the way",
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
  problem_file: "The file can't be read: it was changed, moved or deleted. Choose it again.",
  problem_file_too_large: "The file, or its picture, is too large.",
  problem_other_tab: "This file is already being uploaded, here or in another tab.",
  problem_check_failed: "A check of the service failed. The upload continues by itself.",
  problem_rate_limited: "Too many requests. Try again in a moment.",
  problem_not_media: "The content is not what the name says, or the file is damaged or cut off.",
  problem_too_many_uploads: "Too many uploads are open. Finish or cancel some.",
  problem_unsupported_media: "This type of file is not accepted.",
  problem_quota_exceeded: "There is no room left for this file.",
  problem_token_size_exceeded: "The file is larger than you may upload.",
  problem_token_type_refused: "You may not upload this type of file.",
  problem_upload_gone: "What was sent of this file is deleted. Upload it again.",
  problem_upload_expired: "What was sent of this file is deleted. Upload it again.",
  problem_invalid_upload: "What was sent of this file was sent elsewhere. Upload it again.",
  problem_network: "The connection failed.",
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
  comparing: "Prüft, was schon gesendet ist",
  hashing: "Liest die Datei",
  uploading: "Lädt hoch",
  storing: "Wartet auf den Speicher",
  finishing: "Schließt ab",
  paused: "Angehalten",
  unauthorized: "Nicht erlaubt",
  failed: "Unterbrochen",
  refused: "Nicht angenommen",
  done: "Hochgeladen",
  cancelled: "Verworfen",
  offline: "Keine Verbindung. Uploads gehen von selbst weiter, sobald sie wieder da ist.",
  service: "Der Dienst antwortet nicht. Neuer Versuch …",
  store: "Der Speicher antwortet nicht. Neuer Versuch …",
  check: "Eine Prüfung des Dienstes ist fehlgeschlagen. Neuer Versuch …",
  blocked: "Der Speicher lässt keine Seite dieser Adresse hochladen: Seine CORS-Regeln fehlen. Sagen Sie es denen, die sie betreiben.",
  pause: "Anhalten",
  resume: "Fortsetzen",
  again: "Erneut versuchen",
  cancel: "Verwerfen",
  remove: "Entfernen",
  part_of: "{part} von {whole}",
  on_the_way: "{size} unterwegs",
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
  problem_file_too_large: "Die Datei oder ihr Bild ist zu groß.",
  problem_upload_gone: "Was von dieser Datei gesendet war, ist gelöscht. Laden Sie sie noch einmal hoch.",
  problem_upload_expired: "Was von dieser Datei gesendet war, ist gelöscht. Laden Sie sie noch einmal hoch.",
  problem_invalid_upload: "Was von dieser Datei gesendet war, wurde anderswohin gesendet. Laden Sie sie noch einmal hoch.",
  problem_not_your_upload: "Diesen Upload hat jemand anderes begonnen. Laden Sie die Datei noch einmal hoch.",
  problem_other_tab: "Diese Datei wird schon hochgeladen, hier oder in einem anderen Tab.",
  problem_invalid_field: "Diese Seite verlangt etwas, das der Dienst nicht kann. Sagen Sie es denen, die sie betreiben.",
  problem_network: "Die Verbindung ist fehlgeschlagen.",
  problem_busy: "Der Dienst ist überlastet.",
  problem_file: "Die Datei kann nicht gelesen werden: sie wurde geändert, verschoben oder gelöscht. Wählen Sie sie noch einmal.",
  problem_check_failed: "Eine Prüfung des Dienstes ist fehlgeschlagen. Der Upload geht von selbst weiter.",
  problem_rate_limited: "Zu viele Anfragen. Versuchen Sie es gleich noch einmal.",
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
  comparing: "Vérification de ce qui est déjà envoyé",
  hashing: "Lecture du fichier",
  uploading: "Envoi",
  storing: "En attente du stockage",
  finishing: "Finalisation",
  paused: "En pause",
  unauthorized: "Non autorisé",
  failed: "Interrompu",
  refused: "Refusé",
  done: "Envoyé",
  cancelled: "Annulé",
  offline: "Pas de connexion. Les envois reprennent d’eux-mêmes dès qu’elle revient.",
  service: "Le service ne répond pas. Nouvel essai…",
  store: "Le stockage ne répond pas. Nouvel essai…",
  check: "Une vérification du service a échoué. Nouvel essai…",
  blocked: "Le stockage n’accepte aucun envoi de ce site : ses règles CORS manquent. Signalez-le à ses responsables.",
  pause: "Pause",
  resume: "Reprendre",
  again: "Réessayer",
  cancel: "Annuler",
  remove: "Retirer",
  part_of: "{part} sur {whole}",
  on_the_way: "{size} en route",
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
  problem_file_too_large: "Le fichier, ou son image, est trop gros.",
  problem_upload_gone: "Ce qui était envoyé de ce fichier est supprimé. Envoyez-le de nouveau.",
  problem_upload_expired: "Ce qui était envoyé de ce fichier est supprimé. Envoyez-le de nouveau.",
  problem_invalid_upload: "Ce qui était envoyé de ce fichier l’a été ailleurs. Envoyez-le de nouveau.",
  problem_not_your_upload: "Quelqu’un d’autre a commencé cet envoi. Envoyez le fichier de nouveau.",
  problem_other_tab: "Ce fichier est déjà en cours d’envoi, ici ou dans un autre onglet.",
  problem_invalid_field: "Cette page demande ce que le service ne fait pas. Signalez-le à ses responsables.",
  problem_network: "La connexion a échoué.",
  problem_busy: "Le service est surchargé.",
  problem_file: "Le fichier ne peut pas être lu : il a été modifié, déplacé ou supprimé. Choisissez-le de nouveau.",
  problem_check_failed: "Une vérification du service a échoué. L’envoi reprend de lui-même.",
  problem_rate_limited: "Trop de requêtes. Réessayez dans un instant.",
};

const LANGUAGES = { en: EN, de: DE, fr: FR };

/** The first of these languages that there are words for; "en" if there is none. */
export function choose(tags) {
  const codes = tags.map((tag) => tag.toLowerCase().split("-")[0]);
  return codes.find((code) => Object.hasOwn(LANGUAGES, code)) ?? "en";
}

/** The shared words of a language; what it lacks is in English. */
export function wordsOf(language) {
  const words = { ...EN, ...LANGUAGES[language] };
  return { ...words, problem_store_blocked: words.blocked };
}

const UNITS = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"];

/** What is said in one language: `texts` by their names, and numbers as it writes them. */
export class Words {
  constructor(texts, language) {
    this.texts = texts;
    this.language = language;
  }

  #number(value, options) {
    return new Intl.NumberFormat(this.language, options).format(value);
  }

  #list(each, type) {
    return new Intl.ListFormat(this.language, { type }).format(each);
  }

  has = (name) => Object.hasOwn(this.texts, name);

  /** The text of a name, and its places: "{done} of {count}". `count` chooses between singular and plural, if there are both. */
  t = (name, values = {}) => {
    const found = this.texts[name];
    const plural = () => found[new Intl.PluralRules(this.language).select(values.count)] ?? found.other;
    const text = typeof found === "object" ? plural() : found;
    const shown = (value) => (typeof value === "number" ? this.#number(value) : value);
    return text.replace(/\{(\w+)\}/g, (place, key) => shown(values[key]) ?? place);
  };

  /** "a.jpg, b.jpg, and 3 more" */
  few = (names, most = 3) => {
    const rest = names.length - most;
    return this.#list(rest > 1 ? [...names.slice(0, most), this.t("more", { count: rest })] : names);
  };

  /** "JPEG, PNG or WebP" */
  either = (names) => this.#list(names, "disjunction");

  /** What an attribute `accept` takes, in words: "video/*,.pdf" → "Accepted here: videos and PDF." Empty: all. */
  accepted(accept) {
    const word = (one) => {
      if (one.startsWith(".")) return one.slice(1).toUpperCase();
      const [type, sub = ""] = one.split("/");
      return sub === "*" ? (this.texts[`type_${type}`] ?? one) : sub.replace(/^x-|\+.*$/g, "").toUpperCase();
    };
    const types = accept.split(",").map((each) => each.trim().toLowerCase()).filter(Boolean).map(word);
    return types.length ? this.t("accepted", { types: this.#list(new Set(types)) }) : "";
  }

  /** Why it failed: in these words, else in those of the problem: a hook's reason, for one. */
  problem = ({ code, kind, message }) => {
    const text = this.texts[`problem_${code}`] ?? this.texts[`problem_${kind}`] ?? message;
    return text.charAt(0).toUpperCase() + text.slice(1) + (!text || /[.!?…]$/.test(text) ? "" : ".");
  };

  /** "320 MB", "1.25 GB"; with "-per-second", a rate. */
  size = (bytes, per = "") => {
    const step = Math.min(UNITS.length - 1, Math.floor(Math.log10(Math.max(1, bytes) * 1.0005) / 3));
    const value = bytes / 1000 ** step;
    const maximumFractionDigits = step === 0 || value >= 99.95 ? 0 : step >= 3 && value < 9.995 ? 2 : 1;
    const unitDisplay = step ? "short" : "long";
    const options = { style: "unit", unit: `${UNITS[step]}${per}`, unitDisplay, maximumFractionDigits };
    return this.#number(value, options).replace(/\s/, "\u00a0");
  };

  /** "150 of 320 MB": the unit only once if both have the same. */
  sizeOf = (part, whole) => {
    const [a, b] = [this.size(part), this.size(whole)];
    const unit = b.slice(b.indexOf("\u00a0"));
    return this.t("part_of", { part: part && !a.endsWith(unit) ? a : a.split("\u00a0")[0], whole: b });
  };

  /** "25 sec", "3 min", "2.5 hr": no finer than the estimate. */
  duration = (seconds) => {
    const [value, unit] = seconds < 55 ? [Math.max(5, Math.ceil(seconds / 5) * 5), "second"]
      : seconds < 5400 ? [Math.ceil(seconds / 60), "minute"] : [seconds / 3600, "hour"];
    return this.#number(value, { style: "unit", unit, unitDisplay: "short", maximumFractionDigits: 1 });
  };

  /** "100%" only when everything is sent. */
  percent = (fraction) => this.#number(Math.floor(Math.min(1, fraction) * 100) / 100, { style: "percent" });
}
