// The page in English. Other languages have the same names; what they lack is shown in English.

export const WORDS = {
  title: "Upload media",
  lead: "Made for big files. An interrupted upload continues where it stopped, even after the browser was closed.",
  unfit_https:
    "Open this page over https (or on localhost): otherwise the browser does not let it compute the checksums that " +
    "protect your files.",
  unfit_storage: "This browser does not let the page store anything: uploads end when the page is closed.",

  // the key
  key: "API key",
  key_hint: "Kept in this tab only, until you close it.",
  key_show: "Show",
  key_hide: "Hide",
  key_checking: "Checking the key…",
  key_good: "This key is valid. It belongs to {owner}.",
  key_later: "The key can't be checked now: the service can't be reached.",
  key_change: "Change key",
  key_enter: "Enter a key",
  account: "Uploading as {owner}",

  // files in
  drop: "Drop photos and videos here",
  drop_any: "Drop files here",
  files: "Choose files",
  folder: "Choose a folder",
  camera: "Use the camera",
  link: "Add a link",
  limit_any: "any type of file",
  limit_size: "up to {size} each",
  limit_days: { one: "deleted after {count} day", other: "deleted after {count} days" },
  limit_hours: { one: "deleted after {count} hour", other: "deleted after {count} hours" },
  picker: "Photos and videos",

  link_label: "Link to a photo or video",
  link_hint: "For media that are public on the web. The file stays where it is; the service checks that a post can use it.",
  link_check: "Check",
  link_checking: "Checking the link…",
  link_usable: "Can be used in a post",
  link_invalid: "That is not a web address. It begins with https://",
  link_twice: "This link is already in the list.",
  link_not_a_url: "This is not a web address that the service can open.",
  link_not_public: "This address is not on the public internet.",
  link_sharing_link:
    "Sharing links of Google Drive, Dropbox, OneDrive and iCloud open a web page, not the file. Download it and upload " +
    "it here.",
  link_needs_authentication: "The file is behind a login. Make it public, or upload it here.",
  link_bad_status: "There is no file at this address.",
  link_html: "This is the address of a web page, not of a photo or video.",
  link_wrong_content_type: "The server calls the file something else than a supported photo or video.",
  link_not_media: "The file at this address is not a supported photo or video.",
  link_too_many_redirects: "This address leads on and on to others. Use the file's own address.",
  link_too_large: "The file at this address is too large.",
  link_unreachable: "The server at this address can't be reached.",
  link_too_slow: "The server at this address is too slow.",

  // what is not taken
  not_added: { one: "{name} was not added.", other: "{count} files were not added." },
  refused_type: "{type} isn't supported. Choose {names}.",
  refused_export: {
    one: "{type} isn't supported. Export it as {other}.",
    other: "{type} isn't supported. Export them as {other}.",
  },
  refused_nameless: "A file without a name extension isn't supported. Choose {names}.",
  refused_claim: { one: "It is a {said} file, and not {type}.", other: "They are {said} files, and not {type}." },
  refused_empty: { one: "It is empty.", other: "They are empty." },
  refused_size: { one: "It has {size}. The limit is {limit}.", other: "They have {size} each. The limit is {limit}." },
  refused_token_size: {
    one: "It has {size}. Your upload token allows {limit}.",
    other: "They have {size} each. Your upload token allows {limit}.",
  },
  refused_token_type: "Your upload token does not allow {type}.",
  refused_twice: { one: "It is already in the list.", other: "They are already in the list." },
  refused_elsewhere: { one: "It is being uploaded in another tab.", other: "They are being uploaded in another tab." },
  refused_unread: { one: "It can't be read.", other: "They can't be read." },
  refused_folder: { one: "This folder has no photos or videos.", other: "These folders have no photos or videos." },
  dismiss: "Dismiss",

  // all together
  uploads: "Your uploads",
  total: "Total progress",
  total_done: { one: "{count} file uploaded", other: "All {count} files uploaded" },
  total_refused: {
    one: "{done} of {count} file uploaded, {refused} not accepted",
    other: "{done} of {count} files uploaded, {refused} not accepted",
  },
  total_count: { one: "{done} of {count} file", other: "{done} of {count} files" },
  total_links: { one: "{count} link", other: "{count} links" },
  total_paused: "Paused",
  attention: { one: "{count} upload needs you", other: "{count} uploads need you" },
  problem_shared: { one: "{count} file: {text}", other: "{count} files: {text}" },
  left_open: "{count} files are not finished. They continue where they stopped.",
  pause_all: "Pause all",
  continue_all: "Continue all",
  clear: "Clear finished",

  // one upload
  remembered: "Not finished",
  unbegun: "Not begun",
  state_stalled: "Waiting to continue",
  state_elsewhere: "In another tab",
  hint_continue: "Press Continue.",
  hint_choose: "Choose or drop the same file to continue.",
  hint_choose_touch: "Choose the same file to continue.",
  continued: "Continued at {percent}",

  continue: "Continue",
  again: "Start again",
  choose: "Choose the file",
  copy: "Copy link",
  copied: "Copied",
  of: "{action}: {name}",
  progress_of: "Progress of {name}",

  not_allowed: "The browser was not allowed to read the file. Press Continue to be asked again.",
  moved: "The file was moved or deleted. Choose it again to continue.",
  other_file: "That is another file (other name or size). This upload needs {name} as it was.",
  new_upload: "This is not the file of the unfinished upload (other size or date), so a new upload starts.",
  date_changed: "The file's date has changed, so what was sent is compared with it. Only equal parts are kept.",
  abort_unheard: "The service could not be reached. It deletes the parts within 7 days.",

  ask_title: "Cancel this upload?",
  ask_text: "What was sent of {name} will be deleted. To continue later, pause it instead.",
  ask_yes: "Cancel the upload",
  ask_no: "Keep it",
  ask_again_title: "Upload again?",
  ask_again_text: { one: "{name} is uploaded already.", other: "{count} of these files are uploaded already: {names}." },
  ask_again_yes: "Upload again",
  ask_again_no: "Skip",

  // problems, by the service's codes and the client's kinds; else the service's own words are shown
  problem_missing_key: "Enter your API key to start.",
  problem_invalid_key: "This API key is unknown or was revoked. Enter another one to continue.",
  problem_invalid_token: "This upload token is not valid. Enter another one to continue.",
  problem_token_expired: "This upload token has expired. Enter a new one to continue.",
  problem_token_used_up: "This upload token has been used for as many uploads as it allows. Enter a new one to continue.",
  problem_not_your_upload: "This upload was started with another owner's key. Enter that key, and it continues.",
  problem_network: "The connection failed. It continues by itself when the connection is back.",

  // to screen readers
  said_added: { one: "{count} file added", other: "{count} files added" },
  said_state: "{name}: {state}",
  said_percent: "{percent} uploaded",
  said_copied: "Link copied",
  said_not_copied: "Copying is not allowed here. The link is selected.",
};
